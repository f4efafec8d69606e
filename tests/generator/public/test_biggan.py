"""BigGAN against its equations written out once more, and its public format."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from biggan_file import ATTENTION, BOTTOM, CHANNELS, CHUNK, CONDITION, EMBEDDED, State, public_state
from families import with_zeros, without
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.public.biggan import BigGAN, folded, spectral_norm
from gcl_custom.weights.state_dicts import save_weights


def one_tile(state: State, z: Tensor, condition: Tensor) -> Tensor:
    """The equations for one tile, with spectral norm at every use of a weight, slowly."""

    def weight(name: str) -> Tensor:
        w, u = state[f"{name}.weight"], state[f"{name}.u0"][0]
        matrix = w.reshape(w.shape[0], -1)
        v = torch.einsum("n,nm->m", u, matrix)
        v = v / v.norm()
        settled = torch.einsum("nm,m->n", matrix, v)
        settled = settled / settled.norm()
        return w / torch.einsum("n,nm,m->", settled, matrix, v)

    def conv(name: str, x: Tensor) -> Tensor:
        w = weight(name)
        return F.conv2d(x[None], w, state.get(f"{name}.bias"), padding=w.shape[-1] // 2)[0]

    def norm(name: str, x: Tensor, y: Tensor) -> Tensor:
        gain, bias = weight(f"{name}.gain") @ y, weight(f"{name}.bias") @ y
        out = torch.empty_like(x)
        for c in range(len(x)):
            standard = (x[c] - state[f"{name}.stored_mean"][c]) / (state[f"{name}.stored_var"][c] + 1e-5).sqrt()
            out[c] = (1 + gain[c]) * standard + bias[c]
        return out

    def up(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)

    embedded = weight("shared_feat") @ condition + state["shared_feat.bias"]
    x = (weight("linear") @ z[:CHUNK] + state["linear.bias"]).view(-1, BOTTOM, BOTTOM)
    for i in range(len(CHANNELS)):
        y = torch.cat([embedded, z[CHUNK * (i + 1) : CHUNK * (i + 2)]])
        block = f"blocks.{i}.0"
        inner = conv(f"{block}.conv1", up(norm(f"{block}.bn1", x, y).relu()))
        x = conv(f"{block}.conv2", norm(f"{block}.bn2", inner, y).relu()) + conv(f"{block}.conv_sc", up(x))
        if i in ATTENTION:
            block = f"blocks.{i}.1"
            asked, keys, values = (conv(f"{block}.{name}", x) for name in ("theta", "phi", "g"))
            keys, values = (m.unfold(1, 2, 2).unfold(2, 2, 2).amax((-2, -1)) for m in (keys, values))
            scores = torch.einsum("kyx,khw->yxhw", asked, keys)
            share = (scores - scores.amax((2, 3), keepdim=True)).exp()
            share = share / share.sum((2, 3), keepdim=True)
            found = torch.einsum("yxhw,vhw->vyx", share, values)
            x = x + state[f"{block}.gamma"] * conv(f"{block}.o", found)
    scale = state["output_layer.0.gain"] / (state["output_layer.0.stored_var"] + 1e-5).sqrt()
    x = (x - state["output_layer.0.stored_mean"][:, None, None]) * scale[:, None, None]
    x = (x + state["output_layer.0.bias"][:, None, None]).relu()
    return conv("output_layer.2", x).tanh()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save({f"module.{name}": value for name, value in public_state().items()}, tmp_path / "G_ema_best0.pth")
    return tmp_path / "G_ema_best0.pth"


@torch.no_grad()
def test_agrees_with_its_equations(path: Path) -> None:
    network = BigGAN.from_file(path, "here")
    assert (network.noise_width, network.side) == (12, 32)
    assert network.sizes.attention == ATTENTION
    z, condition = torch.randn(2, 12), torch.randn(2, CONDITION)
    tiles = network(z, condition)
    state = public_state()
    expected = torch.stack([one_tile(state, *each) for each in zip(z, condition, strict=True)])
    assert 0.2 < expected.std() < 0.9  # neither flat nor at the ends of tanh, where nothing could differ
    torch.testing.assert_close(tiles, expected, atol=2e-5, rtol=0)


def test_what_is_saved_loads_again(path: Path, tmp_path: Path) -> None:
    network = BigGAN.from_file(path, "here")
    save_weights(tmp_path / "saved.safetensors", network)
    again = BigGAN.from_file(tmp_path / "saved.safetensors", "here")
    assert again.sizes == network.sizes
    assert all(value.equal(again.state_dict()[name]) for name, value in network.state_dict().items())
    assert set(network.state_dict()) == {
        name for name in public_state() if not name.endswith((".u0", ".sv0")) and name != "shared.weight"
    }


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (5, 9)])
def test_the_spectral_norm_is_that_of_one_step_of_torch_s_power_iteration(shape: tuple[int, ...]) -> None:
    weight, u = torch.randn(shape), torch.randn(1, shape[0])
    module = nn.Conv2d(4, 6, 3) if len(shape) == 4 else nn.Linear(9, 5)
    module.weight.data.copy_(weight)
    nn.utils.spectral_norm(module, n_power_iterations=1)
    module.weight_u.copy_(u[0])  # type: ignore[operator]
    module(torch.zeros(1, 4, 3, 3) if len(shape) == 4 else torch.zeros(1, 9))  # a step is made before each use
    torch.testing.assert_close(weight / spectral_norm(weight, u), module.weight, atol=1e-6, rtol=1e-5)
    settled = torch.linalg.svd(weight.flatten(1))
    torch.testing.assert_close(spectral_norm(weight, settled.U[:, :1].T), settled.S[0])
    assert "a.u0" not in folded({"a.weight": weight, "a.u0": u, "a.sv0": torch.ones(1)}, "here")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    faults = {
        r"missing linear\.weight": without("linear.weight"),
        r"missing blocks\.1\.0\.conv2\.u0": without("blocks.1.0.conv2.u0"),
        r"missing blocks\.2\.0\.bn1\.stored_mean": without("blocks.2.0.bn1.stored_mean"),
        r"missing blocks\.0\.0\.conv1\.weight": without("blocks.0.0.conv1.weight"),
        r"surplus blocks\.0\.0\.conv3\.bias": with_zeros("blocks.0.0.conv3.bias", 1),
        r"output_layer\.2\.bias is \(4,\), not \(3,\)": with_zeros("output_layer.2.bias", 4),
        r"linear\.u0 is \(1, 2\), not \(1, 256\)": with_zeros("linear.u0", 1, 2),
    }
    for message, spoil in faults.items():
        state = public_state()
        spoil(state)
        torch.save(state, tmp_path / "g.pth")
        with pytest.raises(UserError, match=rf"generator\.weights: .*does not fit.*: .*{message}"):
            BigGAN.from_file(tmp_path / "g.pth", "generator.weights")
    torch.save(public_state() | {"net": nn.Linear(1, 1)}, tmp_path / "g.pth")
    with pytest.raises(UserError, match=r"names torch\.nn\.modules\.linear\.Linear"):
        BigGAN.from_file(tmp_path / "g.pth", "generator.weights")


def test_a_generator_that_wants_a_class_is_refused(tmp_path: Path) -> None:
    state = public_state()
    for name in [name for name in state if ".bn" in name and name.endswith("weight")]:
        state[name] = torch.zeros(len(state[name]), EMBEDDED + CHUNK + 6)
    torch.save(state, tmp_path / "g.pth")
    with pytest.raises(UserError, match="also wants a class"):
        BigGAN.from_file(tmp_path / "g.pth", "here")

"""Laws of IC-GAN as a generator, and the public format of SwAV's network."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from families import rng
from swav_file import swav_state
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.augment.latent_edits import Edited, Interpolation, LatentGenerator, partners
from gcl_custom.generator.public.biggan import BigGAN, Sizes
from gcl_custom.generator.public.icgan import FEATURE_WEIGHT, Features, IcGan, swav_trunk, truncated_normal
from gcl_custom.weights.state_dicts import save_weights


def small_network() -> BigGAN:
    torch.manual_seed(0)
    network = BigGAN(Sizes(2048, 6, 3, 4, ((16, 16), (16, 8)), frozenset({0})))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture
def make() -> type:
    """Makes IC-GANs of 16 px with a trunk far smaller than a ResNet-50."""

    class Made(IcGan):
        def __init__(self, side: int = 16, **settings: float) -> None:
            network = small_network()
            trunk = nn.Sequential(nn.Conv2d(3, 8, 7, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
            trunk.append(nn.Linear(128, 2048))
            usual = {"strength": 1.0, "truncation": 0.7, "inversion_steps": 0}
            super().__init__(network, trunk, side, torch.device("cpu"), **usual | settings)  # type: ignore[arg-type]

    return Made


@pytest.mark.parametrize("bound", [0.5, 1.4, 30.0])
def test_the_noise_is_normal_between_its_bounds(bound: float) -> None:
    drawn = truncated_normal(rng(*range(200)), "z", bound, 200).double().flatten()
    assert drawn.isfinite().all()
    assert drawn.abs().max() <= bound * (1 + 1e-6)
    inside = math.erf(bound / math.sqrt(2))
    density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
    assert drawn.mean().abs() < 0.02
    assert drawn.var().item() == pytest.approx(1 - 2 * bound * density / inside, rel=0.03)
    quarter = math.sqrt(2) * torch.erfinv(torch.tensor(0.5 * inside, dtype=torch.float64))
    assert (drawn.abs() < quarter).double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_view_is_a_function_of_the_tile(make: type) -> None:
    generator = make(side=20, inversion_steps=2, strength=0.6)
    assert isinstance(generator, LatentGenerator)
    tiles = torch.rand(3, 3, 24, 24)
    views = generator.augment(generator.encode(tiles, rng(4, 5, 6)), rng(4, 5, 6))
    view = generator.augment(generator.encode(tiles[1:2], rng(5)), rng(5))
    torch.testing.assert_close(view.z, views.z[1:2])
    torch.testing.assert_close(view.condition, views.condition[1:2])
    decoded = generator.decode(view)
    assert decoded.shape == (1, 3, 20, 20)
    torch.testing.assert_close(decoded, generator.decode(views)[1:2])
    other = generator.augment(generator.encode(tiles[1:2], rng(5)), rng(5, view=1))
    assert not torch.allclose(generator.decode(other), decoded)


def test_the_condition_stays_and_the_noise_is_fresh(make: type) -> None:
    generator = make()
    features = generator.encode(torch.rand(2, 3, 16, 16), rng(0, 1))
    torch.testing.assert_close(features.condition.norm(dim=1), torch.ones(2))
    assert features.z.equal(torch.zeros(2, 9))
    views = generator.augment(features, rng(0, 1))
    assert views.condition.equal(features.condition)
    assert views.z.equal(truncated_normal(rng(0, 1), "fresh noise", 1.4, 9))
    expected = (generator.network(views.z, features.condition) + 1) / 2
    torch.testing.assert_close(generator.decode(views), expected)


def test_the_strength_goes_from_the_inverted_noise_to_fresh_noise(make: type) -> None:
    tiles = torch.rand(2, 3, 16, 16)
    found = {}
    for strength in (0.0, 0.6, 1.0):
        generator = make(inversion_steps=3, strength=strength)
        features = generator.encode(tiles, rng(0, 1))
        found[strength] = generator.augment(features, rng(0, 1)).z
    assert found[0.0].equal(features.z)
    torch.testing.assert_close(found[0.6], 0.8 * found[0.0] + 0.6 * found[1.0])
    assert found[1.0].equal(truncated_normal(rng(0, 1), "fresh noise", 1.4, 9))


def test_inversion_pulls_the_view_towards_the_tile(make: type) -> None:
    generator = make(inversion_steps=25, learning_rate=0.1)
    condition = F.normalize(torch.randn(2, 2048), dim=1)
    tiles = generator.decode(Features(condition, truncated_normal(rng(7, 8), "other", 1.4, 9)))
    inverted = generator.invert(tiles, rng(0, 1))
    assert (inverted.after < 0.8 * inverted.before).all()
    assert inverted.latent.abs().max() <= 1.4
    features = generator.encode(tiles, rng(0, 1))
    assert features.z.equal(inverted.latent)
    drawn = generator.decode(features)
    pixels = (drawn - tiles).square().mean((1, 2, 3))
    conditions = (generator.condition(drawn) - features.condition).square().sum(1)
    torch.testing.assert_close(pixels + FEATURE_WEIGHT * conditions, inverted.after, atol=1e-5, rtol=1e-4)


def test_is_edited_towards_the_inverted_noise_of_another_tile(make: type) -> None:
    generator, tiles = make(inversion_steps=3), torch.rand(5, 3, 16, 16)
    edit = Interpolation(generator, torch.arange(5), lambda numbers, draws: generator.encode(tiles[numbers], draws))
    draws = rng(1, 3)
    chosen = partners(draws, torch.arange(5))
    edited = Edited(generator, partial(edit.apply_to, strength=1.0))
    features = edited.encode(tiles[[1, 3]], draws)
    view = edited.augment(features, draws)
    expected = generator.encode(tiles[chosen], rng(*chosen.tolist()))  # as that tile itself is encoded
    torch.testing.assert_close(view.z, expected.z, atol=1e-4, rtol=1e-4)
    assert view.condition.equal(features.condition)


@pytest.fixture(scope="module")
def public() -> dict[str, Tensor]:
    return swav_state()


def test_reads_the_public_files(public: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(public, tmp_path / "swav_800ep_pretrain.pth.tar")
    save_weights(tmp_path / "g.safetensors", small_network())
    where = ("generator.weights", "generator.swav")
    device = torch.device("cpu")
    generator = IcGan.from_files(
        tmp_path / "g.safetensors",
        tmp_path / "swav_800ep_pretrain.pth.tar",
        where,
        32,
        device,
        strength=1.0,
        truncation=0.5,
        inversion_steps=0,
    )
    assert generator.bound == 1.0
    reference = torchvision.models.resnet50(weights=None).eval()
    reference.load_state_dict({name.removeprefix("module."): value for name, value in public.items()}, strict=False)
    tile = torch.rand(1, 3, 16, 16)
    features = generator.encode(tile, rng(3))
    seen = torchvision.transforms.functional.normalize(tile, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    seen = F.interpolate(seen, (224, 224), mode="bicubic", align_corners=False)
    taken: list[Tensor] = []
    reference.avgpool.register_forward_hook(lambda module, before, after: taken.append(after.flatten(1)))
    with torch.no_grad():
        reference(seen)
    torch.testing.assert_close(features.condition, taken[0] / taken[0].norm(), atol=1e-6, rtol=1e-4)
    assert generator.decode(features).shape == (1, 3, 32, 32)


def test_what_does_not_fit_is_named(public: dict[str, Tensor], tmp_path: Path) -> None:
    # One number stands for all of a tensor, so that the files stay small; their shapes are the public ones.
    thin = {name: value.new_zeros(()).expand(value.shape) for name, value in public.items()}
    faults = {
        r"missing layer3\.5\.conv2\.weight": {k: v for k, v in thin.items() if k != "module.layer3.5.conv2.weight"},
        r"surplus layer5\.weight": thin | {"module.layer5.weight": torch.zeros(1)},
        r"bn1\.bias is \(3,\), not \(64,\)": thin | {"module.bn1.bias": torch.zeros(3)},
        r"names torch\.nn\.modules\.linear\.Linear": {"net": nn.Linear(1, 1)},
    }
    for message, state in faults.items():
        torch.save(state, tmp_path / "swav.pth.tar")
        with pytest.raises(UserError, match=rf"generator\.swav: .*{message}"):
            swav_trunk(tmp_path / "swav.pth.tar", "generator.swav")

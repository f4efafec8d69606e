"""The handcrafted suite: what it draws, the laws of a batch, and the suite of the paper written out."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from gcl_custom.randomness import Randomness
from gcl_custom.recipe.pretraining import HandcraftedSettings
from gcl_custom.views import handcrafted as aug
from gcl_custom.views import pixel_operations as op

EVERYTHING = HandcraftedSettings(
    flip=0.5, vertical_flip=0.5, turn=0.8, jitter=1.0, grey=0.5, blur=(0.7, 0.7), solarise=(0.3, 0.5)
)


@pytest.fixture
def tiles() -> Tensor:
    return torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def rng(count: int = 6, step: int = 0) -> Randomness:
    return Randomness(seed=3, stage="test", step=step, tiles=torch.arange(count))


@pytest.mark.parametrize(("bands", "rgb"), [(3, True), (3, False), (5, False), (1, False)])
@pytest.mark.parametrize("view", [0, 1])
def test_a_tiles_view_does_not_depend_on_its_batch(bands: int, rgb: bool, view: int) -> None:
    tiles, numbers = torch.rand(10, bands, 24, 24), torch.arange(100, 110)
    together = aug.handcrafted(tiles, EVERYTHING, view, 16, rgb, Randomness(0, "test", 5, numbers))
    halves = [
        aug.handcrafted(tiles[half], EVERYTHING, view, 16, rgb, Randomness(0, "test", 5, numbers[half]))
        for half in (slice(0, 3), slice(3, 10))
    ]
    torch.testing.assert_close(together, torch.cat(halves), rtol=0, atol=1e-6)
    assert together.shape == (10, bands, 16, 16)
    assert together.min() >= -1e-6
    assert together.max() <= 1 + 1e-6


def test_views_differ_between_places_and_steps(tiles: Tensor) -> None:
    first = aug.handcrafted(tiles, EVERYTHING, 0, 24, True, rng())
    assert torch.equal(first, aug.handcrafted(tiles, EVERYTHING, 0, 24, True, rng()))
    assert not torch.allclose(first, aug.handcrafted(tiles, EVERYTHING, 1, 24, True, rng()))
    assert not torch.allclose(first, aug.handcrafted(tiles, EVERYTHING, 0, 24, True, rng(step=1)))


def test_tiles_are_not_changed(tiles: Tensor) -> None:
    before = tiles.clone()
    aug.handcrafted(tiles, EVERYTHING, 0, 24, True, rng())
    assert torch.equal(tiles, before)


def test_probabilities_are_those_of_the_settings() -> None:
    tiles = torch.rand(2000, 3, 16, 16)
    only_flip = HandcraftedSettings(
        crop=(1.0, 1.0), flip=0.3, jitter=0.0, grey=0.0, blur=(0.0, 0.0), solarise=(0.0, 0.25)
    )
    ratios = torch.tensor(op.ASPECTS)
    assert ratios.log().sum().abs() < 1e-6
    first = aug.paired(tiles, ["flip"], only_flip, 16, True, rng(2000))
    flipped = (first == tiles.flip(-1)).flatten(1).all(dim=1)
    assert (flipped | (first == tiles).flatten(1).all(dim=1)).all()
    assert flipped.float().mean().item() == pytest.approx(0.3, abs=0.035)
    second = aug.paired(tiles, ["solarise"], only_flip, 16, True, rng(2000))
    assert (second != tiles).flatten(1).any(dim=1).float().mean().item() == pytest.approx(0.25, abs=0.035)


def test_pairing_applies_only_its_steps(tiles: Tensor) -> None:
    assert torch.equal(aug.paired(tiles, [], EVERYTHING, 24, True, rng()), tiles)
    resized = aug.paired(tiles, [], EVERYTHING, 16, True, rng())
    torch.testing.assert_close(resized, tv.resize(tiles, [16, 16], antialias=True), rtol=0, atol=1e-5)
    cropped = aug.paired(tiles, ["crop"], EVERYTHING, 24, True, rng())
    assert not torch.allclose(cropped, tiles)


def test_views_stay_in_full_precision_under_autocast(tiles: Tensor) -> None:
    expected = aug.handcrafted(tiles, EVERYTHING, 0, 16, True, rng())
    with torch.autocast("cpu", torch.bfloat16):
        found = aug.handcrafted(tiles, EVERYTHING, 0, 16, True, rng())
    assert torch.equal(found, expected)


def composed(tiles: Tensor, settings: HandcraftedSettings, view: int, size: int, rng: Randomness) -> Tensor:
    """The suite of the paper written out."""

    def uniform(name: str, *shape: int) -> Tensor:
        return rng.uniform(f"view {view}, {name}", *shape)

    def change(name: str, probability: float, changed: Tensor) -> Tensor:
        return torch.where((uniform(name) < probability)[:, None, None, None], changed, views)

    boxes = op.crops(uniform("crop", 10, 4), *tiles.shape[-2:], settings.crop)
    turns = torch.where(uniform("turn") < settings.turn, (uniform("turn by") * 4).long(), 0)
    flips, vertical = uniform("flip") < settings.flip, uniform("vertical_flip") < settings.vertical_flip
    views = op.frame(tiles, size, boxes, flips, vertical, turns)
    amounts = (settings.brightness, settings.contrast, settings.saturation)
    factors = [1 + amount * (2 * uniform(f"factor {i}") - 1) for i, amount in enumerate(amounts)]
    hue = settings.hue * (2 * uniform("hue") - 1)
    views = change("jitter", settings.jitter, op.jitter(views.clone(), *factors, hue))
    views = change("grey", settings.grey, op.greyscale(views))
    sigma = settings.blur_sigma[0] + (settings.blur_sigma[1] - settings.blur_sigma[0]) * uniform("sigma")
    views = change("blur", settings.blur[view], op.blur(views, sigma, 6))
    return change("solarise", settings.solarise[view], op.solarise(views))


@pytest.mark.parametrize("view", [0, 1])
def test_views_are_the_suite_bit_for_bit(tiles: Tensor, view: int) -> None:
    for settings in (HandcraftedSettings(), EVERYTHING):
        found = aug.handcrafted(tiles, settings, view, 16, True, rng())
        assert torch.equal(found, composed(tiles, settings, view, 16, rng()))

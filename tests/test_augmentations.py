"""The handcrafted suite: what it draws, the laws of a batch, and that added steps leave the others as they were."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from gcl_custom import augmentations as aug
from gcl_custom import operations as op
from gcl_custom.randomness import Randomness
from gcl_custom.recipe_pretrain import ADDED, Handcrafted

EVERYTHING = Handcrafted(
    flip=0.5, vertical_flip=0.5, turn=0.8, jitter=1.0, grey=0.5, blur=(0.7, 0.7), solarise=(0.3, 0.5),
    rotation=0.6, perspective=0.6, sobel=0.4, cutout=0.6,
)  # fmt: skip


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
    only_flip = Handcrafted(crop=(1.0, 1.0), flip=0.3, jitter=0.0, grey=0.0, blur=(0.0, 0.0), solarise=(0.0, 0.25))
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


def composed(tiles: Tensor, settings: Handcrafted, view: int, size: int, rng: Randomness) -> Tensor:
    """The suite of the paper written out, as it was before there were further steps."""

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
def test_without_added_steps_views_are_those_of_before_bit_for_bit(tiles: Tensor, view: int) -> None:
    without = EVERYTHING.model_copy(update=dict.fromkeys(ADDED, 0.0))
    for settings in (Handcrafted(), without):
        found = aug.handcrafted(tiles, settings, view, 16, True, rng())
        assert torch.equal(found, composed(tiles, settings, view, 16, rng()))


@pytest.mark.parametrize("step", ADDED)
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_an_added_step_has_its_probability_and_changes_no_other_draw(step: str, bands: int) -> None:
    tiles = torch.rand(600, bands, 16, 16)
    plain = Handcrafted(jitter=0.0, grey=0.0, blur=(0.0, 0.0), solarise=(0.0, 0.0))
    some = plain.model_copy(update={step: 0.3})
    before, after = (aug.handcrafted(tiles, settings, 0, 16, False, rng(600)) for settings in (plain, some))
    changed = (before != after).flatten(1).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.06)
    paired = aug.paired(tiles, [step], some, 16, False, rng(600))
    assert ((paired != tiles).flatten(1).any(dim=1)).float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert torch.equal(aug.paired(tiles, ["flip"], some, 16, False, rng(600)),
                       aug.paired(tiles, ["flip"], plain, 16, False, rng(600)))  # fmt: skip


def test_angles_and_corners_are_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corner never passes another: what the view shows of a tile is never folded."""
    seen: dict[str, Tensor] = {}
    rotation, perspective = op.rotation, op.perspective
    monkeypatch.setattr(op, "rotation", lambda d, h, w: seen.update(degrees=d) or rotation(d, h, w))
    monkeypatch.setattr(op, "perspective", lambda c, h, w: seen.update(corners=c) or perspective(c, h, w))
    always = Handcrafted(rotation=1.0, rotation_degrees=25.0, perspective=1.0, perspective_distortion=0.6)
    aug.handcrafted(torch.rand(2000, 1, 16, 16), always, 0, 16, False, rng(2000))
    assert -25 <= seen["degrees"].min() < -24.5
    assert 24.5 < seen["degrees"].max() <= 25
    upper_left = seen["corners"][:, 0] / 16
    assert 0 <= upper_left.min() < 0.01
    assert 0.29 < upper_left.max() <= 0.3
    x, y = (seen["corners"].roll(-1, dims=1) - seen["corners"]).unbind(dim=2)
    assert (x * y.roll(-1, dims=1) - y * x.roll(-1, dims=1) > 0).all(), "four turns to the right: convex"

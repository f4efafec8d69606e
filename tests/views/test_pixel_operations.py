"""Operations on pixels: each against torchvision on single tiles, or a closed form."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from gcl_custom.randomness import Randomness
from gcl_custom.views import pixel_operations as op

NEVER = torch.zeros(6, dtype=torch.bool)
STILL = torch.zeros(6, dtype=torch.long)


@pytest.fixture
def tiles() -> Tensor:
    return torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def rng(count: int = 6, step: int = 0) -> Randomness:
    return Randomness(seed=3, stage="test", step=step, tiles=torch.arange(count))


@pytest.mark.parametrize("size", [16, 24, 40])
def test_crop_is_torchvisions_crop_and_antialiased_resize(tiles: Tensor, size: int) -> None:
    boxes = op.crops(rng().uniform("crop", 10, 4), 24, 24, (0.08, 1.0))
    found = op.frame(tiles, size, boxes, NEVER, NEVER, STILL)
    for tile, box, view in zip(tiles, boxes.tolist(), found, strict=True):
        expected = tv.resized_crop(tile, *box, size=[size, size], antialias=True)
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-5)


def test_flips_and_turns_are_exact(tiles: Tensor) -> None:
    whole = torch.tensor([0, 0, 24, 24]).expand(6, 4)
    flips, vertical = torch.tensor([0, 1, 0, 1, 1, 0]).bool(), torch.tensor([0, 0, 1, 1, 0, 1]).bool()
    turns = torch.tensor([0, 1, 2, 3, 3, 1])
    found = op.frame(tiles, 24, whole, flips, vertical, turns)
    for tile, flip, upside, turn, view in zip(tiles, flips, vertical, turns.tolist(), found, strict=True):
        expected = tile.flip(-1) if flip else tile
        expected = expected.flip(-2) if upside else expected
        assert torch.equal(view, torch.rot90(expected, turn, (-2, -1)))


def test_crops_lie_within_and_have_the_area_and_aspect_asked_for() -> None:
    boxes = op.crops(rng(3000).uniform("crop", 10, 4), 100, 100, (0.2, 0.6))
    top, left, height, width = boxes.unbind(dim=1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert ((top + height) <= 100).all()
    assert ((left + width) <= 100).all()
    share, aspect = height * width / 1e4, width / height
    assert 0.19 < share.min() < 0.22
    assert 0.58 < share.max() < 0.61
    assert share.mean().item() == pytest.approx(0.4, abs=0.01)
    assert 0.73 < aspect.min() < 0.78
    assert 1.28 < aspect.max() < 1.37
    assert aspect.log().mean().item() == pytest.approx(0, abs=0.02)


def test_jitter_is_torchvisions(tiles: Tensor) -> None:
    u = rng().uniform("factors", 4)
    brightness, contrast, saturation, hue = 0.6 + 0.8 * u[:, 0], 0.6 + 0.8 * u[:, 1], 0.8 + 0.4 * u[:, 2], u[:, 3] - 0.5
    found = op.jitter(tiles, brightness, contrast, saturation, hue)
    for i, tile in enumerate(tiles):
        expected = tv.adjust_brightness(tile, brightness[i].item())
        expected = tv.adjust_contrast(expected, contrast[i].item())
        expected = tv.adjust_saturation(expected, saturation[i].item())
        expected = tv.adjust_hue(expected, hue[i].item())
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-4)


def test_hue_of_greys_black_and_white_stays() -> None:
    greys = torch.tensor([0.0, 0.3, 1.0])[:, None, None, None].expand(3, 3, 4, 4)
    torch.testing.assert_close(op.rotate_hue(greys, torch.tensor([0.3, -0.2, 0.5])), greys)


def test_greyscale_and_solarisation_are_torchvisions(tiles: Tensor) -> None:
    torch.testing.assert_close(op.greyscale(tiles), tv.rgb_to_grayscale(tiles, num_output_channels=3))
    torch.testing.assert_close(op.solarise(tiles), tv.solarize(tiles, 0.5))


@pytest.mark.parametrize("size", [24, 16])
def test_blur_is_torchvisions(tiles: Tensor, size: int) -> None:
    tiles = tiles[..., :size, :size].contiguous()
    sigma = torch.tensor([0.1, 0.3, 0.8, 1.2, 1.7, 2.0])
    found = op.blur(tiles, sigma, radius=6)
    for tile, s, view in zip(tiles, sigma.tolist(), found, strict=True):
        torch.testing.assert_close(view, tv.gaussian_blur(tile, [13, 13], [s, s]), rtol=0, atol=1e-5)


def test_bands_are_jittered_each_by_itself() -> None:
    tiles = 0.4 + 0.2 * torch.rand(2, 5, 8, 8)
    gain, offset = 0.8 + 0.4 * torch.rand(2, 5), 0.2 * torch.rand(2, 5) - 0.1
    found = op.jitter_bands(tiles, gain, offset)
    before, after = tiles.mean(dim=(2, 3)), found.mean(dim=(2, 3))
    torch.testing.assert_close(after, before * (1 + offset))
    torch.testing.assert_close(found.std(dim=(2, 3)), tiles.std(dim=(2, 3)) * gain)


def test_a_dropped_band_keeps_its_mean_only() -> None:
    tiles = torch.rand(3, 4, 8, 8)
    found = op.drop_band(tiles, torch.tensor([0, 2, 3]))
    for tile, band, view in zip(tiles, [0, 2, 3], found, strict=True):
        torch.testing.assert_close(view[band], tile[band].mean().expand(8, 8))
        others = [i for i in range(4) if i != band]
        assert torch.equal(view[others], tile[others])

"""Operations on pixels: each against torchvision on single tiles, or a closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from gcl_custom import operations as op
from gcl_custom.randomness import Randomness

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


def reflected(tile: Tensor, by: int) -> Tensor:
    return torch.from_numpy(np.pad(tile.numpy(), ((0, 0), (by, by), (by, by)), mode="symmetric"))


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_rotation_is_torchvisions_on_a_reflected_plane(bands: int) -> None:
    tiles, degrees = torch.rand(7, bands, 24, 20), torch.tensor([0.0, 10.0, -33.0, 90.0, 137.0, 180.0, -180.0])
    found = op.warp(tiles, op.rotation(degrees, 24, 20))
    for tile, angle, view in zip(tiles, degrees.tolist(), found, strict=True):
        plane = tv.rotate(reflected(tile, 20), angle, tv.InterpolationMode.BILINEAR)
        torch.testing.assert_close(view, plane[:, 20:-20, 20:-20], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[0], tiles[0], rtol=0, atol=1e-6)


def test_perspective_is_torchvisions_on_a_reflected_plane() -> None:
    tiles, by = torch.rand(3, 4, 20, 30), 60
    corners = [
        [[0, 0], [30, 0], [30, 20], [0, 20]],
        [[3, 2], [28, 1], [26, 17], [1, 19]],
        [[6, 0], [30, 4], [25, 20], [0, 15]],
    ]
    found = op.warp(tiles, op.perspective(torch.tensor(corners).float(), 20, 30))
    for tile, ends, view in zip(tiles, corners, found, strict=True):
        before, after = ([[x + by, y + by] for x, y in points] for points in (corners[0], ends))
        plane = tv.perspective(reflected(tile, by), before, after, tv.InterpolationMode.BILINEAR)
        torch.testing.assert_close(view, plane[:, by:-by, by:-by], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[0], tiles[0], rtol=0, atol=1e-5)


def test_perspective_takes_corners_where_it_is_told() -> None:
    corners = torch.tensor([[[1.0, 2.0], [11.0, 0.5], [10.0, 9.0], [2.5, 10.0]]])
    there = torch.cat([corners[0], torch.ones(4, 1)], dim=1) @ op.perspective(corners, 12, 16)[0].T
    expected = torch.tensor([[0.0, 0.0], [16.0, 0.0], [16.0, 12.0], [0.0, 12.0]])
    torch.testing.assert_close(there[:, :2] / there[:, 2:], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bands", [1, 5])
def test_sobel_is_the_length_of_the_convolved_gradient(bands: int) -> None:
    tiles = torch.rand(2, bands, 9, 12)
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    framed = torch.nn.functional.pad(tiles, (1, 1, 1, 1), mode="reflect")
    both = [
        torch.nn.functional.conv2d(framed, kernel.expand(bands, 1, 3, 3), groups=bands) for kernel in (across, across.T)
    ]
    expected = (both[0].square() + both[1].square()).sqrt() / 4
    torch.testing.assert_close(op.sobel(tiles), expected.clamp(max=1))


def test_sobel_of_a_slope_an_edge_and_a_plain() -> None:
    slope = (torch.arange(8.0) * 0.1).expand(1, 1, 8, 8)
    torch.testing.assert_close(op.sobel(slope)[..., 1:-1], torch.full((1, 1, 8, 6), 0.2), msg="8 times 0.1, over 4")
    edge = (torch.arange(8) >= 4).float().expand(1, 1, 8, 8)
    assert op.sobel(edge)[0, 0, 0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert not op.sobel(torch.full((1, 2, 8, 8), 0.7)).any()


def test_cutout_is_torchvisions_erasing_with_the_mean(tiles: Tensor) -> None:
    boxes = op.squares(rng().uniform("square", 3), 24, 24, (0.02, 0.5))
    for tile, box, view in zip(tiles, boxes.tolist(), op.cut_out(tiles, boxes), strict=True):
        assert torch.equal(view, tv.erase(tile, *box, v=tile.mean(dim=(1, 2), keepdim=True)))


def test_squares_lie_within_and_have_the_area_asked_for() -> None:
    top, left, height, width = op.squares(rng(3000).uniform("square", 3), 100, 80, (0.1, 0.4)).unbind(dim=1)
    assert torch.equal(height, width)
    assert min(top.min(), left.min()) == 0
    assert (top + height).max() == 100
    assert (left + width).max() == 80
    area = height * width / 8000
    assert 0.09 < area.min() < 0.11
    assert 0.39 < area.max() < 0.41
    assert area.float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert op.squares(torch.zeros(1, 3), 16, 16, (1e-4, 1.0)).tolist() == [[0, 0, 1, 1]], "at least a pixel"

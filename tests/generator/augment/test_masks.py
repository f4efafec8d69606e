"""Masks: shares and schedules in closed form, and the laws of Halton's order."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image

from gcl_custom.generator.augment import masks
from gcl_custom.randomness import Randomness


def randomness(tiles: int, step: int = 0) -> Randomness:
    return Randomness(7, "test", step, torch.arange(tiles))


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.9])
def test_each_token_is_hidden_with_the_probability_at_every_position(probability: float) -> None:
    hidden = masks.hide(randomness(4000), probability, 4, 4)
    error = math.sqrt(probability * (1 - probability) / 4000)
    assert (hidden.float().mean(dim=0) - probability).abs().max() < 4.5 * error
    # Independent: the number hidden has the variance of a binomial.
    variance = hidden.flatten(1).sum(dim=1).float().var().item()
    assert variance == pytest.approx(16 * probability * (1 - probability), rel=0.12)


def test_what_a_tile_hides_does_not_depend_on_its_batch() -> None:
    whole = masks.hide(randomness(6), 0.5, 8, 8)
    alone = masks.hide(Randomness(7, "test", 0, torch.tensor([4])), 0.5, 8, 8)
    assert torch.equal(whole[4:5], alone)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 24), (3, 5), (2, 7), (1, 1), (1, 4)])
def test_centre_hides_what_has_four_neighbours(height: int, width: int) -> None:
    hidden = masks.centre(height, width, 2)
    for row in range(height):
        for column in range(width):
            beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            inside = all(0 <= y < height and 0 <= x < width for y, x in beside)
            assert hidden[:, row, column].tolist() == [inside, inside]


def test_a_tile_is_laid_at_nine_places_equally_often() -> None:
    corners = masks.place(randomness(9000), 256, 196)
    places, often = corners.unique(dim=0, return_counts=True)
    assert places.tolist() == [[row, column] for row in (0, 30, 60) for column in (0, 30, 60)]
    assert (often - 1000).abs().max() < 4.5 * math.sqrt(9000 * 1 / 9 * 8 / 9)
    alone = masks.place(Randomness(7, "test", 0, torch.tensor([4])), 256, 196)
    assert torch.equal(alone, corners[4:5]), "whatever the batch"
    assert not torch.equal(masks.place(randomness(9000, step=1), 256, 196), corners), "each view has its own"


@pytest.mark.parametrize(
    ("grid", "pixels", "share"), [(16, 16, 196 / 256), (24, 16, 196 / 256), (5, 3, 0.6), (7, 4, 0.1), (4, 8, 1.0)]
)
def test_what_is_visible_lies_under_the_tile_and_what_is_hidden_does_not(grid: int, pixels: int, share: float) -> None:
    size = grid * pixels
    shrunk = masks.shrunk_side(size, share)
    corners = masks.place(randomness(60), size, shrunk)
    assert corners.min() >= 0
    assert corners.max() + shrunk <= size
    # Where a white tile is laid, the canvas is painted black: a token is visible if its square is white throughout.
    laid = torch.zeros(60, size, size)
    for tile, (row, column) in enumerate(corners.tolist()):
        laid[tile, row : row + shrunk, column : column + shrunk] = 1
    darkest = -torch.nn.functional.max_pool2d(-laid[:, None], pixels)[:, 0]
    assert torch.equal(masks.outside(corners, shrunk, pixels, grid), darkest < 1)


def test_what_the_dissertation_sizes_leave_visible() -> None:
    # 196 pixels hold 12 squares of 16 and no 13th; the first whole ones begin at 0, 32 and 64.
    corners = torch.tensor([[row, column] for row in (0, 30, 60) for column in (0, 30, 60)])
    visible = ~masks.outside(corners, 196, 16, 16)
    for seen, (row, column) in zip(visible, itertools.product((0, 2, 4), repeat=2), strict=True):
        expected = torch.zeros(16, 16, dtype=torch.bool)
        expected[row : row + 12, column : column + 12] = True
        assert torch.equal(seen, expected)


@pytest.mark.parametrize(("size", "shrunk"), [(256, 196), (33, 20), (21, 1)])
def test_a_tile_is_laid_shrunk_and_the_canvas_has_its_mean(size: int, shrunk: int) -> None:
    torch.manual_seed(0)
    tiles = torch.rand(9, 2, size, size)
    kept, corners = tiles.clone(), masks.place(randomness(9), size, shrunk)
    canvas = masks.lay(tiles, corners, shrunk)
    assert torch.equal(tiles, kept), "arguments are left alone"
    # Pillow shrinks with the same triangle, as wide as a pixel of the target.
    for tile, laid, (row, column) in zip(tiles, canvas, corners.tolist(), strict=True):
        inside = laid[:, row : row + shrunk, column : column + shrunk].clone()
        for band, found in zip(tile, inside, strict=True):
            expected = Image.fromarray(band.numpy()).resize((shrunk, shrunk), Image.Resampling.BILINEAR)
            torch.testing.assert_close(found, torch.from_numpy(np.array(expected)), rtol=0, atol=1e-5)
        laid[:, row : row + shrunk, column : column + shrunk] = tile.mean(dim=(1, 2))[:, None, None]
        torch.testing.assert_close(laid, tile.mean(dim=(1, 2))[:, None, None].expand_as(laid))


def test_a_tile_of_full_share_is_laid_as_it_is() -> None:
    tiles = torch.rand(3, 3, 16, 16)
    corners = masks.place(randomness(3), 16, masks.shrunk_side(16, 1.0))
    assert torch.equal(masks.lay(tiles, corners, 16), tiles)
    assert not masks.outside(corners, 16, 4, 4).any()


def test_training_mask_follows_the_cosine_and_hides_at_least_one() -> None:
    share = masks.training_mask(randomness(8000), 8, 8).flatten(1).float().mean(dim=1)
    assert share.min() >= 1 / 64
    # The cosine of a uniform progress has mean 2 / pi and the distribution function 1 - 2/pi arccos(s).
    assert share.mean().item() == pytest.approx(2 / math.pi, abs=0.02)
    for s in (0.25, 0.5, 0.75):
        assert (share <= s).float().mean().item() == pytest.approx(1 - 2 / math.pi * math.acos(s), abs=0.02)
    assert masks.training_mask(randomness(300), 1, 2).flatten(1).any(dim=1).all()


def test_training_mask_hides_every_position_equally_often() -> None:
    often = masks.training_mask(randomness(8000), 3, 3).float().mean(dim=0)
    assert (often - often.mean()).abs().max() < 0.025


def test_schedule_in_closed_form() -> None:
    left = torch.tensor([256, 64, 3, 1, 0])
    initially, counts = left, []
    for step in range(12):
        left = masks.still_hidden(initially, left, step, 12)
        counts.append(left.tolist())
    cosines = [math.cos(math.pi / 2 * (step + 1) / 12) for step in range(12)]
    assert [c[0] for c in counts] == [math.floor(256 * c) for c in cosines[:-1]] + [0]
    assert [c[1] for c in counts] == [math.floor(64 * c) for c in cosines[:-1]] + [0]
    assert [c[2] for c in counts][:4] == [2, 1, 0, 0], "at least one token a step"
    assert [c[3] for c in counts] == [0] * 12
    assert [c[4] for c in counts] == [0] * 12


def test_one_step_decides_everything() -> None:
    assert masks.still_hidden(torch.tensor([5, 0]), torch.tensor([5, 0]), 0, 1).tolist() == [0, 0]


@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 8), (16, 16), (24, 24), (3, 5)])
def test_halton_order_is_a_permutation(height: int, width: int) -> None:
    order = masks.halton_order(height, width)
    assert sorted(order.tolist()) == list(range(height * width))


def test_halton_order_against_the_sequence_by_hand() -> None:
    # (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9), (5/8, 7/9), (3/8, 2/9), (7/8, 5/9), times 4, floored.
    by_hand = [(2, 1), (1, 2), (3, 0), (0, 1), (2, 3), (1, 0), (3, 2)]
    assert masks.halton_order(4, 4)[:7].tolist() == [4 * row + column for row, column in by_hand]


def test_halton_order_spreads_better_than_chance() -> None:
    def nearest(order: torch.Tensor) -> float:
        points = torch.stack([order // 16, order % 16], dim=1).float()[:32]
        return (torch.cdist(points, points) + 99 * torch.eye(32)).min(dim=1).values.mean().item()

    chance = [nearest(torch.randperm(256, generator=torch.Generator().manual_seed(seed))) for seed in range(20)]
    assert nearest(masks.halton_order(16, 16)) > max(chance)

"""Masks: shares and schedules in closed form, and the laws of Halton's order."""

import math

import pytest
import torch

from gcl_custom.generator import masks
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

"""Steering against closed forms."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gcl_custom.generator.augment.edit_training import State
from gcl_custom.generator.augment.steering import REACH, Kind, Steering, edited_tiles, fit_steering
from gcl_custom.randomness import Randomness

Render = Callable[[Tensor, Tensor], Tensor]


def linear_generator(width: int) -> tuple[Render, Tensor]:
    """tile = 0.5 + A z with pixels far from 0 and 1, so that no edit meets the ends of the scale; and A."""
    matrix = 0.02 * torch.randn(3 * 8 * 8, width, generator=torch.Generator().manual_seed(0))
    return lambda z, which: 0.5 + (z @ matrix.T).view(-1, 3, 8, 8), matrix


def test_finds_the_closed_form_of_a_linear_generator() -> None:
    """min_w |A w - r 1|^2 over all amounts and latents: w = r A^+ 1."""
    render, matrix = linear_generator(6)
    steering = Steering("brightness", (6,))
    fit_steering(steering, render, torch.randn(64, 6), 0, 150, learning_rate=0.3)
    expected = torch.linalg.pinv(matrix) @ torch.full((len(matrix),), REACH["brightness"])
    torch.testing.assert_close(steering.direction.data, expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(("kind", "latent"), [("brightness", (6,)), ("brightness", (4, 5, 5)), ("zoom", (4, 5, 5))])
def test_moves_are_odd_in_the_amount_and_nothing_at_0(kind: Kind, latent: tuple[int, ...]) -> None:
    steering = Steering(kind, latent)
    for parameter in steering.parameters():
        torch.nn.init.normal_(parameter)
    z, amount = torch.randn(3, *latent), torch.tensor([0.3, 1.0, -0.5])
    torch.testing.assert_close(steering(z, amount) - z, z - steering(z, -amount))
    assert steering(z, torch.zeros(3)).equal(z)
    rng = Randomness(0, "views", 0, torch.tensor([5, 6, 7]))
    assert steering.apply_to(z, rng, 0.0).equal(z)
    moved = steering.apply_to(z, rng, 0.5)
    alone = steering.apply_to(z[1:2], Randomness(0, "views", 0, torch.tensor([6])), 0.5)
    torch.testing.assert_close(alone, moved[1:2])


def test_a_move_is_drawn_evenly_both_ways() -> None:
    steering = Steering("brightness", (1,))
    steering.direction.data.fill_(1.0)
    moved = steering.apply_to(torch.zeros(4000, 1), Randomness(0, "views", 0, torch.arange(4000)), 0.5).detach()
    assert moved.abs().max() <= 0.5
    assert moved.mean().abs() < 0.02
    assert moved.std().item() == pytest.approx(0.5 / 3**0.5, rel=0.03)


def test_a_shift_of_a_map_is_the_difference_of_its_neighbours() -> None:
    """A map that is its own picture, moved by a pixel, to the right for a > 0: the best move is (left - right) / 2."""
    steering = Steering("shift", (1, 8, 8))
    maps = 0.5 + 0.1 * torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    fit_steering(steering, lambda z, which: z, maps, 0, 120, learning_rate=0.05)
    kernel = steering.convolution.weight.data[0, 0]  # type: ignore[union-attr]
    torch.testing.assert_close(kernel, torch.tensor([[0.0, 0, 0], [0.5, 0, -0.5], [0, 0, 0]]), atol=0.1, rtol=0)


def test_a_zoom_of_a_map_needs_to_know_where() -> None:
    """Smooth maps that are their own pictures: the error left is a small part of that of no move, a shift's is not."""
    draw = torch.Generator().manual_seed(0)
    maps = 0.5 + 0.2 * F.interpolate(torch.randn(64, 1, 4, 4, generator=draw), 16, mode="bicubic")
    rest = {}
    amount = torch.linspace(-1, 1, 64)
    which = torch.arange(64)
    for kind in ("zoom", "shift"):
        steering = Steering("zoom", (1, 16, 16))
        if kind == "shift":
            steering = Steering("shift", (1, 16, 16))
            steering.kind = "zoom"  # the target of a zoom
            steering.move = steering.convolution.forward  # type: ignore[method-assign,union-attr,assignment]
        before = steering.loss(maps, amount, which, lambda z, which: z)
        fit_steering(steering, lambda z, which: z, maps, 0, 80, learning_rate=0.05)
        rest[kind] = (steering.loss(maps, amount, which, lambda z, which: z) / before).item()
    assert rest["zoom"] < 0.35
    assert rest["shift"] > 0.8


def test_edits_of_pictures() -> None:
    tiles = torch.rand(3, 2, 8, 8)
    amount = torch.tensor([1.0, -1.0, 0.0])
    lighter, known = edited_tiles(tiles, "brightness", amount)
    torch.testing.assert_close(lighter[0], (tiles[0] + 0.25).clamp(max=1))
    torch.testing.assert_close(lighter[1], (tiles[1] - 0.25).clamp(min=0))
    assert known.min() == 1
    shifted, known = edited_tiles(tiles, "shift", amount)  # an eighth of 8 pixels
    torch.testing.assert_close(shifted[0, :, :, 1:], tiles[0, :, :, :-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(shifted[1, :, :, :-1], tiles[1, :, :, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(shifted[2], tiles[2], atol=1e-5, rtol=0)
    assert known[0, 0].sum(0).tolist() == [0] + [8] * 7
    assert known[1, 0].sum(0).tolist() == [8] * 7 + [0]
    ramp = torch.linspace(-0.875, 0.875, 8).expand(1, 1, 8, 8)
    larger, known = edited_tiles(ramp, "zoom", torch.ones(1))
    torch.testing.assert_close(larger, ramp * 2 ** -REACH["zoom"], atol=1e-5, rtol=0)
    assert known.min() == 1
    smaller, known = edited_tiles(ramp, "zoom", -torch.ones(1))
    assert known[0, 0, 0].max() == 0
    assert known[0, 0, 1:-1, 1:-1].min() == 1
    torch.testing.assert_close(smaller[..., 1:-1], ramp[..., 1:-1] * 2 ** REACH["zoom"], atol=1e-5, rtol=0)


def test_goes_on_from_a_state_as_if_never_interrupted() -> None:
    render, _ = linear_generator(6)
    latents = torch.randn(64, 6)
    states: list[State] = []
    whole, rest = Steering("zoom", (6,)), Steering("zoom", (6,))
    fit_steering(whole, render, latents, 3, 6, progress=lambda done, losses, state: states.append(state()))
    fit_steering(rest, render, latents, 3, 6, state=states[1])
    assert rest.direction.equal(whole.direction)
    assert not whole.direction.equal(states[1]["steering"]["network"]["direction"])
    other = Steering("zoom", (6,))
    fit_steering(other, render, latents, 4, 6)
    assert not other.direction.equal(whole.direction)

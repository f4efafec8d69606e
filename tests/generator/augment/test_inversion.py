"""Laws of inversion."""

import torch
from torch import Tensor

from gcl_custom.generator.augment.inversion import invert

TARGET = torch.tensor([[0.5, -0.25], [3.0, 0.0]])


def distance(latent: Tensor) -> Tensor:
    return (latent - TARGET[: len(latent)]).square().sum(1)


def test_finds_the_nearest_latent_within_the_bound() -> None:
    found = invert(distance, torch.zeros(2, 2), steps=120, learning_rate=0.1, bound=2.0)
    torch.testing.assert_close(found.latent, torch.tensor([[0.5, -0.25], [2.0, 0.0]]), atol=2e-2, rtol=0)
    torch.testing.assert_close(found.before, TARGET.square().sum(1))
    torch.testing.assert_close(found.after, distance(found.latent))


def test_never_ends_further_off_than_it_began() -> None:
    """With a step far too long every later latent is worse, so the start is kept."""
    found = invert(distance, TARGET + 0.01, steps=3, learning_rate=5.0, bound=100.0)
    torch.testing.assert_close(found.latent, TARGET + 0.01)
    assert found.after.equal(found.before)


def test_without_steps_the_start_stays() -> None:
    start = torch.ones(2, 2)
    found = invert(distance, start, steps=0, learning_rate=0.1, bound=2.0)
    assert found.latent.equal(start)
    torch.testing.assert_close(found.after, distance(start))


def test_a_tile_is_inverted_alone() -> None:
    start = torch.randn(2, 2)
    both = invert(distance, start, steps=10, learning_rate=0.1, bound=2.0)
    alone = invert(distance, start[:1], steps=10, learning_rate=0.1, bound=2.0)
    assert both.latent[:1].equal(alone.latent)

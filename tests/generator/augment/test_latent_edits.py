"""Laws of the edits that need no learning, and of the generator that they augment."""

import math
from functools import partial

import pytest
import torch
from families import rng
from torch import Tensor, nn

from gcl_custom.generator.augment.latent_edits import Edited, Interpolation, arc, chord, mixed, noise, partners
from gcl_custom.randomness import Randomness

ZERO, ONE = torch.zeros(1), torch.ones(1)
"""Mean and deviation of a GAN's latents."""


class Toy:
    """A generator whose latent is the mean of each band, so that everything can be said beforehand."""

    device = torch.device("cpu")
    networks: tuple[nn.Module, ...] = ()
    mean, deviation = ZERO, ONE

    def __init__(self, gaussian: bool = True) -> None:
        self.gaussian = gaussian

    def encode(self, tiles: Tensor, rng: Randomness) -> tuple[Tensor, Tensor]:
        return rng.tiles, tiles.mean((2, 3))

    def render(self, features: tuple[Tensor, Tensor]) -> Tensor:
        return features[1][:, :, None, None].expand(-1, -1, 4, 4)

    decode = render

    def latent(self, features: tuple[Tensor, Tensor]) -> Tensor:
        return features[1]

    def replaced(self, features: tuple[Tensor, Tensor], latent: Tensor) -> tuple[Tensor, Tensor]:
        return features[0], latent


@pytest.mark.parametrize("strength", [0.2, 0.7, 1.0])
def test_noise_keeps_the_moments_of_latents(strength: float) -> None:
    mean, deviation = torch.tensor([1.0, -2.0])[:, None, None], torch.tensor([0.5, 3.0])[:, None, None]
    latents = mean + deviation * torch.randn(400, 2, 10, 10, generator=torch.Generator().manual_seed(0))
    noisy = noise(latents, rng(*range(400)), strength, mean, deviation)
    for c in range(2):
        assert noisy[:, c].mean() == pytest.approx(mean[c].item(), abs=0.02 * deviation[c].item())
        assert noisy[:, c].std() == pytest.approx(deviation[c].item(), rel=0.02)
        together = torch.corrcoef(torch.stack([latents[:, c].flatten(), noisy[:, c].flatten()]))[0, 1]
        assert together == pytest.approx(math.sqrt(1 - strength**2), abs=0.02)


def test_strength_0_gives_the_latent_back() -> None:
    latents, partner = torch.randn(3, 4), torch.randn(3, 4)
    assert noise(latents, rng(0, 1, 2), 0.0, ZERO, ONE).equal(latents)
    mean, deviation = torch.tensor(2.0), torch.tensor(0.5)
    torch.testing.assert_close(noise(latents, rng(0, 1, 2), 0.0, mean, deviation), latents)
    assert chord(latents, partner, 0.0).equal(latents)
    torch.testing.assert_close(arc(latents, partner, 0.0), latents)
    assert mixed(latents, partner, 0.0).equal(latents)


def test_strength_1_leaves_nothing_of_the_latent() -> None:
    one, other = torch.randn(3, 4), torch.randn(3, 4)
    assert noise(one, rng(0, 1, 2), 1.0, ZERO, ONE).equal(noise(other, rng(0, 1, 2), 1.0, ZERO, ONE))
    assert chord(one, other, 1.0).equal(other)
    torch.testing.assert_close(arc(one, other, 1.0), other)


def test_noise_is_a_function_of_the_tile_and_the_view() -> None:
    latents = torch.randn(3, 5)
    together = noise(latents, rng(7, 8, 9), 0.5, ZERO, ONE)
    assert noise(latents[1:2], rng(8), 0.5, ZERO, ONE).equal(together[1:2])
    assert not noise(latents[1:2], rng(8, view=1), 0.5, ZERO, ONE).equal(together[1:2])


def test_an_arc_turns_evenly_and_keeps_the_length() -> None:
    one, other = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, math.sqrt(3)]])  # 60 degrees apart, both of length 2
    for share in (0.25, 0.5, 0.9):
        angle = math.radians(60 * share)
        expected = 2 * torch.tensor([[math.cos(angle), math.sin(angle)]])
        torch.testing.assert_close(arc(one, other, share), expected)
        torch.testing.assert_close(arc(other, one, 1 - share), expected)
    assert chord(one, other, 0.5).norm() == pytest.approx(math.sqrt(3))


def test_an_arc_without_a_great_circle_is_the_chord() -> None:
    one = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    other = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [3.0, 4.0]])
    found = arc(one, other, 0.25)
    torch.testing.assert_close(found[:2], chord(one, other, 0.25)[:2])
    torch.testing.assert_close(found[2], math.sin(math.pi / 8) * other[2])  # zeros lie at a right angle to all


def test_partners_are_other_tiles_each_as_likely() -> None:
    among = torch.tensor([2, 3, 5, 8])
    for tile in (5, 100):
        drawn = torch.cat([partners(rng(tile, view=view), among) for view in range(240)])
        choices = [number for number in among.tolist() if number != tile]
        counts = torch.tensor([(drawn == number).sum() for number in choices])
        assert counts.sum() == 240
        expected = 240 / len(choices)
        assert (counts - expected).square().sum() / expected < 16.3  # chi squared, 3 degrees of freedom: p 0.001


def test_a_partner_does_not_depend_on_the_batch() -> None:
    among = torch.arange(50)
    assert partners(rng(4, 9, 1), among)[1] == partners(rng(9), among)[0]
    views = torch.cat([partners(rng(9, view=view), among) for view in range(20)])
    assert len(views.unique()) > 10


@pytest.mark.parametrize("gaussian", [True, False])
def test_interpolation_goes_from_a_tile_to_its_partner(gaussian: bool) -> None:
    tiles = torch.rand(6, 3, 4, 4)
    generator = Toy(gaussian)
    edit = Interpolation(generator, torch.arange(6), lambda numbers, draws: generator.encode(tiles[numbers], draws))
    draws = rng(1, 4)
    chosen = partners(draws, torch.arange(6))
    for strength in (0.0, 0.3, 1.0):
        edited = Edited(generator, partial(edit.apply_to, strength=strength))
        features = edited.augment(edited.encode(tiles[[1, 4]], draws), draws)
        one, other = tiles[[1, 4]].mean((2, 3)), tiles[chosen].mean((2, 3))
        torch.testing.assert_close(features[1], (arc if gaussian else chord)(one, other, strength))
        assert features[0].tolist() == [1, 4]  # whatever is no latent stays
        torch.testing.assert_close(edited.decode(features)[:, :, 0, 0], features[1])

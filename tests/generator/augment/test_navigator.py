"""Laws of the navigator and of the game that it plays."""

import math

import pytest
import torch
from torch import Tensor, nn

from gcl_custom.generator.augment.edit_training import State
from gcl_custom.generator.augment.navigator import (
    TEMPERATURE,
    Navigator,
    contrastive_loss,
    fit_navigator,
    small_encoder,
)
from gcl_custom.randomness import Randomness


def render(latent: Tensor, which: Tensor) -> Tensor:
    """Six numbers as a tile of 2 by 3 pixels: a generator that loses nothing."""
    return latent.view(-1, 1, 2, 3)


def game(seed: int = 0) -> tuple[Navigator, nn.Module, Tensor]:
    torch.manual_seed(seed)
    navigator, encoder = Navigator((6,), hidden=16), nn.Sequential(nn.Flatten(), nn.Linear(6, 8))
    return navigator, encoder, torch.randn(128, 6)


def loss_of(navigator: Navigator, encoder: nn.Module, latents: Tensor, strength: float) -> float:
    rng = Randomness(9, "views", 0, torch.arange(len(latents)))
    moved = navigator.apply_to(latents, rng, strength)
    with torch.no_grad():
        return contrastive_loss(encoder(render(latents, rng.tiles)), encoder(render(moved, rng.tiles))).item()


def test_the_contrastive_loss_is_its_slow_formula() -> None:
    one, other = torch.randn(5, 4), torch.randn(5, 4)
    total = 0.0
    for asked, answers in ((one, other), (other, one)):
        for i in range(5):
            alike = [torch.cosine_similarity(asked[i], answers[j], dim=0).item() / TEMPERATURE for j in range(5)]
            total -= math.log(math.exp(alike[i]) / sum(math.exp(s) for s in alike)) / 10
    assert contrastive_loss(one, other).item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("shape", [(6,), (4, 3, 3)])
def test_a_step_is_as_long_as_it_is_said_to_be(shape: tuple[int, ...]) -> None:
    spread = torch.rand(shape[0], *[1] * (len(shape) - 1)) + 0.5
    navigator = Navigator(shape, torch.ones(1), spread, hidden=8)
    latents, length = torch.randn(3, *shape), torch.tensor([0.0, 0.4, 1.0])
    step = ((navigator(latents, length) - latents) / spread).flatten(1)
    torch.testing.assert_close(step.norm(dim=1), length * math.sqrt(math.prod(shape)))


def test_lengths_are_drawn_evenly_up_to_the_strength_and_for_each_tile() -> None:
    navigator, _, latents = game()
    many = latents[:1].expand(2000, 6)
    moved = navigator.apply_to(many, Randomness(0, "views", 0, torch.arange(2000)), 0.5)
    lengths = (moved - many).norm(dim=1) / math.sqrt(6)
    assert lengths.max() <= 0.5 + 1e-5
    assert lengths.mean().item() == pytest.approx(0.25, abs=0.02)
    alone = navigator.apply_to(many[:1], Randomness(0, "views", 0, torch.tensor([7])), 0.5)
    torch.testing.assert_close(alone[0], moved[7])
    assert navigator.apply_to(many, Randomness(0, "views", 0, torch.arange(2000)), 0.0).equal(many)


def test_learns_to_raise_the_loss_of_an_encoder_that_stands() -> None:
    navigator, encoder, latents = game()
    before = loss_of(navigator, encoder, latents, 0.8)
    weights = encoder[1].weight.clone()  # type: ignore[index]
    fit_navigator(navigator, encoder, render, latents, 0, 60, 0.8, learning_rate=0.02, learn_encoder=False)
    assert loss_of(navigator, encoder, latents, 0.8) > before + 0.5
    assert encoder[1].weight.equal(weights)  # type: ignore[index]


def test_the_encoder_lowers_what_the_navigator_raises() -> None:
    navigator, encoder, latents = game()
    fit_navigator(navigator, encoder, render, latents, 0, 60, 0.8, learning_rate=0.02, learn_encoder=False)
    hard = loss_of(navigator, encoder, latents, 0.8)
    losses: list[tuple[float, float]] = []
    fit_navigator(
        navigator, encoder, render, latents, 0, 60, 0.8, learning_rate=0.02,
        progress=lambda done, found, state: losses.append((found["encoder"], found["navigator"])),
    )  # fmt: skip
    assert loss_of(navigator, encoder, latents, 0.8) < hard - 0.1
    assert all(encoder_s > 0 > navigator_s for encoder_s, navigator_s in losses)


def test_goes_on_from_a_state_as_if_never_interrupted() -> None:
    states: list[State] = []
    whole, encoder, latents = game()
    fit_navigator(
        whole, encoder, render, latents, 5, 5, 0.5, progress=lambda done, losses, state: states.append(state())
    )
    rest, other, _ = game(1)
    fit_navigator(rest, other, render, latents, 5, 5, 0.5, state=states[1])
    assert all(value.equal(rest.state_dict()[name]) for name, value in whole.state_dict().items())
    assert all(value.equal(other.state_dict()[name]) for name, value in encoder.state_dict().items())


def test_the_encoder_of_a_tile_knows_no_other_tile() -> None:
    encoder = small_encoder(4, width=8, embedding=6)
    tiles = torch.rand(3, 4, 32, 32)
    torch.testing.assert_close(encoder(tiles)[1:2], encoder(tiles[1:2]))
    assert encoder(torch.rand(1, 4, 20, 20)).shape == (1, 6)

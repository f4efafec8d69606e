"""Navigator: the move of a latent that makes the hardest positive pair (COP-Gen, NeurIPS 2022).

"Optimal Positive Generation via Latent Transformation for Contrastive Learning". The views are G(z) and G(z + step),
and a network T gives the step. T is trained to *maximise* the contrastive loss between the two, which leaves as little
mutual information as possible. An encoder is trained to minimise it.

The loss does not keep a view similar to its tile. The length of the step does:

    step = length * sqrt(number of numbers in z) * σ * T((z - m) / σ) / |T((z - m) / σ)|

Here m and σ are the mean and deviation of latents. A length of 1 is as far as a latent lies from the middle of all
latents. A length of s stays within that share of it, however long T is trained. Departure: in training and in use the
length is drawn evenly from 0 to the strength, so several views of one tile differ.

    b  tiles     *latent  axes of a latent, k or d h w     e  width of an embedding
"""

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.generator.augment.edit_training import Player, Progress, Render, State, rows, take_turns
from gcl_custom.randomness import Randomness

TEMPERATURE = 0.2
"""Of the contrastive loss, as is usual (MoCo v2, arXiv:2003.04297)."""


class Navigator(nn.Module):
    """The network T and its step.

    Args:
        latent: shape of one tile's latent, (k,) or (d, h, w).
        mean, deviation: of latents, broadcastable to one; part of the state.
        hidden: width of the layer inside.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        latent: tuple[int, ...],
        mean: Float[Tensor, "..."] | None = None,
        deviation: Float[Tensor, "..."] | None = None,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1) if mean is None else mean.detach().clone())
        self.register_buffer("deviation", torch.ones(1) if deviation is None else deviation.detach().clone())
        self.inner: nn.Sequential
        if len(latent) == 1:
            self.inner = nn.Sequential(nn.Linear(latent[0], hidden), nn.SiLU(), nn.Linear(hidden, latent[0]))
        else:
            self.inner = nn.Sequential(
                nn.Conv2d(latent[0], hidden, 3, padding=1), nn.SiLU(), nn.Conv2d(hidden, latent[0], 3, padding=1)
            )

    def forward(self, latent: Float[Tensor, "b *latent"], length: Float[Tensor, " b"]) -> Float[Tensor, "b *latent"]:
        """Latents after a step of their lengths, from 0 to 1."""
        direction = self.inner((latent - self.mean) / self.deviation)
        unit = F.normalize(direction.flatten(1), dim=1).view_as(latent)
        sizes = length * math.sqrt(unit[0].numel())
        return latent + sizes.view(-1, *[1] * (latent.ndim - 1)) * self.deviation * unit

    def apply_to(
        self, latent: Float[Tensor, "b *latent"], rng: Randomness, strength: float
    ) -> Float[Tensor, "b *latent"]:
        """Latents after a step of a length drawn evenly from 0 to the strength."""
        return self(latent, strength * rng.uniform("navigator", 1)[:, 0].to(latent.device))


def contrastive_loss(one: Float[Tensor, "b e"], other: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    """InfoNCE (arXiv:1807.03748, eq. 4) of embeddings whose rows belong together, both ways, in nats."""
    logits = F.normalize(one, dim=1) @ F.normalize(other, dim=1).T / TEMPERATURE
    pairs = torch.arange(len(one), device=one.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def small_encoder(bands: int, width: int = 32, embedding: int = 64) -> nn.Sequential:
    """The navigator's opponent: four strided convolutions, mean and a linear map; no statistics over a batch."""
    layers: list[nn.Module] = []
    channels = [bands, width, 2 * width, 4 * width, 4 * width]
    for entering, leaving in itertools.pairwise(channels):
        layers += [nn.Conv2d(entering, leaving, 3, stride=2, padding=1), nn.GroupNorm(8, leaving), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], embedding))


def fit_navigator(
    navigator: Navigator,
    encoder: nn.Module,
    render: Render,
    latents: Float[Tensor, "n *latent"],
    seed: int,
    steps: int,
    strength: float,
    *,
    batch: int = 32,
    learning_rate: float = 1e-3,
    learn_encoder: bool = True,
    state: State | None = None,
    progress: Progress | None = None,
) -> State:
    """Train the navigator and the encoder against each other, in turns, or go on from a state. See ``take_turns``.

    Args:
        render, latents: see ``edit_training.Render``.
        strength: largest length of a step.
        learn_encoder: if False, the navigator plays against the encoder as it is.
    """

    def views(step: int) -> tuple[Tensor, Tensor]:
        which = rows(seed, "navigator", step, len(latents), batch, latents.device)
        rng = Randomness(seed, "navigator", step, torch.arange(batch, device=latents.device))
        with torch.no_grad():
            tiles = render(latents[which], which)
        return tiles, render(navigator.apply_to(latents[which], rng, strength), which)

    def of_encoder(step: int) -> Tensor:
        tiles, moved = views(step)
        return contrastive_loss(encoder(tiles), encoder(moved.detach()))

    def of_navigator(step: int) -> Tensor:
        tiles, moved = views(step)
        return -contrastive_loss(encoder(tiles), encoder(moved))

    players = {"navigator": Player(navigator, of_navigator, learning_rate)}
    if learn_encoder:
        players = {"encoder": Player(encoder, of_encoder, learning_rate)} | players
    return take_turns(players, steps, state, progress)

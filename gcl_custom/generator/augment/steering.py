"""Steering: a linear move of the latent, learned so that the picture changes as a plain edit would change it.

"On the steerability of generative adversarial networks", arXiv:1907.07171, eq. 1:

    w* = arg min E_{z, a} || M (G(z + a w) - edit(G(z), a)) ||^2,    a uniform in [-1, 1]

M leaves out the pixels that the edit fetched from beyond the picture's border.

A noise vector gets a constant w. For a map of features d h w, a constant is not enough: a shift moves a neighbour's
features to each token, and a zoom moves them further with the distance from the centre. So the change depends on the
map. These moves are still linear in z:

    brightness   w(z) = v, one number a channel: the same change everywhere
    shift        w(z) = K * z, a 3x3 convolution: what its neighbours hold
    zoom         w(z) = x (K * z) + y (L * z), with x and y from -1 to 1 over the map: a shift that grows outwards

    b  tiles     *latent  axes of a latent, k or d h w
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.generator.augment.edit_training import Player, Progress, Render, State, rows, take_turns
from gcl_custom.randomness import Randomness

Kind = Literal["brightness", "shift", "zoom"]
REACH: dict[Kind, float] = {"brightness": 0.25, "shift": 0.125, "zoom": 0.25}
"""The edit at an amount of 1: lighter by so much of [0, 1], moved right by so much of the side, or enlarged by so many
doublings."""


def edited_tiles(
    tiles: Float[Tensor, "b c y x"], kind: Kind, amount: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b 1 y x"]]:
    """Tiles in [0, 1] edited by an amount from -1 to 1 of ``REACH``, and a mask: 1 where a pixel is known."""
    reach = amount * REACH[kind]
    if kind == "brightness":
        return (tiles + reach[:, None, None, None]).clamp(0, 1), torch.ones_like(tiles[:, :1])
    zero, one = torch.zeros_like(reach), torch.ones_like(reach)
    scale = torch.exp2(-reach) if kind == "zoom" else one
    move = -2 * reach if kind == "shift" else zero
    matrix = torch.stack([scale, zero, move, zero, scale, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(tiles.shape), align_corners=False)
    source = F.grid_sample(tiles, grid, padding_mode="border", align_corners=False)
    known = (grid.abs() <= 1).all(dim=-1)[:, None].to(tiles.dtype)
    return source, known


class Steering(nn.Module):
    """The move w of one edit.

    Args:
        latent: shape of one tile's latent, (k,) or (d, h, w).
    """

    def __init__(self, kind: Kind, latent: tuple[int, ...]) -> None:
        super().__init__()
        self.kind, self.convolution = kind, None
        if len(latent) == 1 or kind == "brightness":
            self.direction = nn.Parameter(torch.zeros(latent[0], *[1] * (len(latent) - 1)))
        else:
            maps = latent[0] * (2 if kind == "zoom" else 1)
            self.convolution = nn.Conv2d(latent[0], maps, 3, padding=1, padding_mode="replicate", bias=False)
            nn.init.zeros_(self.convolution.weight)

    def move(self, latent: Float[Tensor, "b *latent"]) -> Float[Tensor, "_ ..."]:
        """The move at an amount of 1, broadcastable to the latents."""
        if self.convolution is None:
            return self.direction[None]
        moves = self.convolution(latent)
        if self.kind == "shift":
            return moves
        height, width = latent.shape[-2:]
        y = torch.linspace(-1, 1, height, device=latent.device)[:, None]
        x = torch.linspace(-1, 1, width, device=latent.device)
        across, down = moves.chunk(2, dim=1)
        return x * across + y * down

    def forward(self, latent: Float[Tensor, "b *latent"], amount: Float[Tensor, " b"]) -> Float[Tensor, "b *latent"]:
        """Latents moved by their amounts, from -1 to 1."""
        return latent + amount.view(-1, *[1] * (latent.ndim - 1)) * self.move(latent)

    def apply_to(
        self, latent: Float[Tensor, "b *latent"], rng: Randomness, strength: float
    ) -> Float[Tensor, "b *latent"]:
        """Latents moved by an amount drawn evenly from -strength to strength."""
        amount = strength * (2 * rng.uniform("steering", 1)[:, 0].to(latent.device) - 1)
        return self(latent, amount)

    def loss(
        self, latent: Float[Tensor, "b *latent"], amount: Float[Tensor, " b"], which: Tensor, render: Render
    ) -> Float[Tensor, ""]:
        """Mean squared difference between the picture after the move and the edited picture, where that is known."""
        with torch.no_grad():
            wanted, known = edited_tiles(render(latent, which), self.kind, amount)
        error = known * (render(self(latent, amount), which) - wanted).square()
        return error.sum() / (known.sum() * wanted.shape[1]).clamp(min=1)


def fit_steering(
    steering: Steering,
    render: Render,
    latents: Float[Tensor, "n *latent"],
    seed: int,
    steps: int,
    *,
    batch: int = 16,
    learning_rate: float = 0.01,
    state: State | None = None,
    progress: Progress | None = None,
) -> State:
    """Learn the move on latents drawn from ``latents``, or go on from a state. See ``take_turns``."""

    def loss(step: int) -> Tensor:
        which = rows(seed, "steering", step, len(latents), batch, latents.device)
        rng = Randomness(seed, "steering", step, torch.arange(batch, device=latents.device))
        return steering.loss(latents[which], 2 * rng.uniform("amount", 1)[:, 0] - 1, which, render)

    return take_turns({"steering": Player(steering, loss, learning_rate)}, steps, state, progress)

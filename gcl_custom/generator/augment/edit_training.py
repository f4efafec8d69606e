"""The training loop of learned edits: players take turns, each with a gradient step on a loss of its own.

With one player this is plain training, with two whose losses are opposite it is a game. What happens at a step is a
function of the seed, the step and what was learned before, so that training goes on from a state as if it had never
been interrupted.
"""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.randomness import Randomness
from gcl_custom.schedules import cosine

State = dict[str, Any]
"""Steps done, and of each player weights and optimiser: tensors and plain values, as ``torch.save`` takes them."""
Render = Callable[[Tensor, Tensor], Tensor]
"""Latents (b *latent) and the rows (b) of all latents that they come from, to tiles (b c y x) in [0, 1], with a
gradient. A generator whose features hold more than the latent looks the rest up by the row."""


class Player(NamedTuple):
    """A network and what its turn lowers."""

    network: nn.Module
    loss: Callable[[int], Tensor]
    """Of a step, counted from 0."""
    learning_rate: float


Progress = Callable[[int, Mapping[str, float], Callable[[], State]], None]
"""Told the steps done, the losses, and what gives the state, so that a stage can write it whenever it likes."""


def take_turns(
    players: Mapping[str, Player], steps: int, state: State | None = None, progress: Progress | None = None
) -> State:
    """Train for so many steps in all, by Adam, whose learning rate falls to 0 as a cosine; gives the last state.

    Args:
        state: of an earlier call, to go on from; the networks and optimisers are set to it.

    Raises:
        UserError: a loss is no longer finite.
    """
    optimizers = {
        name: torch.optim.Adam(player.network.parameters(), lr=player.learning_rate) for name, player in players.items()
    }
    done = 0
    if state is not None:
        done = state["done"]
        for name, player in players.items():
            player.network.load_state_dict(state[name]["network"])
            optimizers[name].load_state_dict(copy.deepcopy(state[name]["optimizer"]))

    def now() -> State:
        return {"done": done} | {
            name: copy.deepcopy({"network": player.network.state_dict(), "optimizer": optimizers[name].state_dict()})
            for name, player in players.items()
        }

    for step in range(done, steps):
        losses = {}
        for name, player in players.items():
            parameters = list(player.network.parameters())
            loss = player.loss(step)
            losses[name] = loss.item()
            if not math.isfinite(losses[name]):
                raise UserError(f"The loss of the {name} became {losses[name]} at step {step}: lower its learning rate")
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            for group in optimizers[name].param_groups:
                group["lr"] = player.learning_rate * cosine(step, steps)
            optimizers[name].step()
        done = step + 1
        if progress is not None:
            progress(done, losses, now)
    return now()


def rows(seed: int, stage: str, step: int, count: int, batch: int, device: torch.device) -> Int[Tensor, " b"]:
    """The examples of a step, drawn evenly from ``count``, with repetition."""
    rng = Randomness(seed, stage, step, torch.arange(batch, device=device))
    return (rng.uniform("rows", 1)[:, 0] * count).long()

"""Laws of the loop in which players take turns."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.augment.edit_training import Player, State, rows, take_turns


def pair() -> dict[str, Player]:
    """Two players at a saddle, x y + x^2 - y^2, which one lowers and the other raises: its only equilibrium is 0."""
    x, y = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    x.weight.data.fill_(1.0)
    y.weight.data.fill_(-0.7)

    def value() -> Tensor:
        a, b = x.weight.sum(), y.weight.sum()
        return a * b + a**2 - b**2

    return {"low": Player(x, lambda step: value(), 0.1), "high": Player(y, lambda step: -value(), 0.1)}


def test_players_with_opposite_losses_meet_at_the_saddle() -> None:
    players = pair()
    take_turns(players, 150)
    assert abs(players["low"].network.weight.item()) < 0.04
    assert abs(players["high"].network.weight.item()) < 0.04


def test_a_turn_moves_its_own_player_alone() -> None:
    players = pair()
    players["high"] = players["high"]._replace(learning_rate=0.0)
    take_turns(players, 5)
    assert players["high"].network.weight.item() == pytest.approx(-0.7)
    assert players["low"].network.weight.item() < 0.9


def test_goes_on_from_a_state_as_if_never_interrupted() -> None:
    states: list[State] = []

    def keep(done: int, losses: Mapping[str, float], state: Callable[[], State]) -> None:
        assert losses["low"] == pytest.approx(-losses["high"], abs=0.3)
        if done == 3:
            states.append(state())

    whole = take_turns(pair(), 8, progress=keep)
    rest = take_turns(pair(), 8, state=states[0])
    assert rest["done"] == whole["done"] == 8
    for name in ("low", "high"):
        assert rest[name]["network"]["weight"].equal(whole[name]["network"]["weight"])
    assert states[0]["done"] == 3  # a state is no view of what is trained on
    assert not states[0]["low"]["network"]["weight"].equal(whole["low"]["network"]["weight"])


def test_a_loss_that_is_no_number_stops() -> None:
    network = nn.Linear(1, 1)
    with pytest.raises(UserError, match="The loss of the steering became nan at step 0"):
        take_turns({"steering": Player(network, lambda step: network.weight.sum() * math.nan, 0.1)}, 2)


def test_rows_are_drawn_evenly_and_anew_at_each_step() -> None:
    drawn = torch.stack([rows(0, "steering", step, 4, 100, torch.device("cpu")) for step in range(20)])
    counts = drawn.flatten().bincount(minlength=4)
    assert len(counts) == 4
    assert ((counts - 500).square().sum() / 500) < 16.3  # chi squared, 3 degrees of freedom: p 0.001
    assert not drawn[0].equal(drawn[1])

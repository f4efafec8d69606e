"""Flips and turns: the whole group, each element once."""

import torch

from gcl_custom.imagery.symmetry import WAYS, turn, ways


def test_the_eight_ways_are_the_symmetries_of_the_square() -> None:
    tile = torch.arange(9).view(1, 1, 3, 3)
    turned = {tuple(turn(tile, torch.tensor([way])).flatten().tolist()) for way in range(8)}
    by_rotation = {
        tuple(torch.rot90(start, quarter, (2, 3)).flatten().tolist())
        for start in (tile, tile.flip(3))
        for quarter in range(4)
    }
    assert turned == by_rotation
    assert len(turned) == 8


def test_each_tile_goes_its_own_way_and_way_0_changes_nothing() -> None:
    tiles = torch.arange(2 * 4).view(2, 1, 2, 2)
    turned = turn(tiles, torch.tensor([0, 1]))
    assert torch.equal(turned[0], tiles[0])
    assert torch.equal(turned[1], tiles[1].flip(2))


def test_a_symmetry_draws_from_its_own_ways_only() -> None:
    uniform = torch.linspace(0, 1, 65)[:-1]
    assert {symmetry: len(ways(symmetry, uniform).unique()) for symmetry in WAYS} == WAYS
    assert ways("flip", uniform).max() == 1

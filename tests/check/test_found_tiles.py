"""Counts of found tiles: by split and class, those without a label, and what a label fraction leaves."""

import torch

from gcl_custom.check.found_tiles import FoundTiles
from gcl_custom.imagery.decoding import Form
from gcl_custom.measures.label_kinds import SINGLE_LABEL

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, -1, -1, 0, 1])
SPLIT = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2])


def test_tiles_are_counted_by_split_and_class() -> None:
    tiles = FoundTiles(Form(3, "uint8"), True, ["a", "b"], LABELS, SINGLE_LABEL, SPLIT)
    assert [tiles.count(split) for split in ("train", "valid", "test")] == [9, 2, 1]
    assert [tiles.count("train", label) for label in (0, 1, -1)] == [4, 4, 1]
    assert [tiles.count("valid", label) for label in (0, 1, -1)] == [1, 0, 1]
    assert tiles.labelled.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_fraction_leaves_as_many_of_each_class_and_at_least_one() -> None:
    tiles = FoundTiles(Form(3, "uint8"), True, ["a", "b"], LABELS, SINGLE_LABEL, SPLIT)
    assert [tiles.share(fraction) for fraction in (1.0, 0.5, 0.01)] == [8, 4, 2]

"""Train, validation and test tiles: a function of paths, labels and a seed. No pixels."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.imagery.folders import FoundFile
from gcl_custom.imagery.tile_store import SPLITS, SplitName
from gcl_custom.measures.label_kinds import LabelKind
from gcl_custom.recipe.imagery import DataSettings, SplitSettings


def missing_splits(files: Sequence[FoundFile]) -> list[SplitName]:
    """The splits that no folder gives."""
    given = {file.split for file in files}
    return [name for name in SPLITS if name not in given]


def divide(
    files: Sequence[FoundFile], labels: Shaped[Tensor, "n *_"], kind: LabelKind, data: DataSettings
) -> Int[Tensor, " n"]:
    """The split of each tile: as folders or a table give it, and for the splits that none gives, drawn from the rest.

    Raises:
        UserError: a split has no tile.
    """
    split = torch.tensor([SPLITS.index(file.split or "train") for file in files])
    if missing := missing_splits(files):
        rest = torch.nonzero(split == 0).flatten()
        paths = [files[tile].path for tile in rest.tolist()]
        among = [name for name in SPLITS if name == "train" or name in missing]
        split[rest] = random_split(paths, kind.strata(labels[rest]), data.split, among)
    empty = [name for code, name in enumerate(SPLITS) if not (split == code).any()]
    if empty:
        raise UserError(
            f"{data.root} has {len(files)} usable {'tile' if len(files) == 1 else 'tiles'}, and none for the "
            f"{' and the '.join(empty)} split. Training, validation and test need one tile each at the very least, "
            f"and hundreds to learn anything: add tiles or change data.split"
        )
    return split


def in_words(facts: Mapping[str, Any]) -> str:
    """Which kind of split scores rest on, and what it cannot rule out, from what the packed tiles state."""
    if facts["split"] == "random":
        sentence = (
            "The tiles were divided at random within each class: neighbouring tiles may lie on both sides, which "
            "flatters all scores."
        )
    else:
        giver = "the folders" if facts["split"] == "given by folders" else "the table of labels or the folders"
        sentence = f"The split is the one that {giver} give; how far apart its places lie is not known here."
    twins = facts["duplicates_across_splits"]
    return f"{sentence} Files with the same content in more than one split: {twins}." if twins else sentence


def random_split(
    files: Sequence[str], labels: Int[Tensor, " n"], split: SplitSettings, among: Sequence[SplitName] = SPLITS
) -> Int[Tensor, " n"]:
    """Split each class at random by the shares of the recipe: 0 train, 1 valid, 2 test.

    Args:
        files: path of each tile, relative to the root.
        labels: -1 where a tile has none; such tiles count as one class.
        among: the splits to divide between, train first; fewer than three where folders give the others.

    Where a tile goes depends on the seed, its path and its rank among its class, not on the order of the files; a tile
    more or less moves at most the ones at the borders. A class of three tiles or more is in every split, a smaller one
    in train only.
    """
    result = torch.zeros(len(files), dtype=torch.int64)
    given = [getattr(split, name) for name in among]
    shares = [share / sum(given) for share in given]
    codes = torch.tensor([SPLITS.index(name) for name in among])
    for label in sorted(set(labels.tolist())):
        members = torch.nonzero(labels == label).flatten().tolist()
        members.sort(key=lambda tile: hashlib.blake2b(f"{split.seed}/{files[tile]}".encode()).digest())
        result[members] = codes.repeat_interleave(torch.tensor(_counts(len(members), shares)))
    return result


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers near total * shares that sum to total; none is 0 where total allows it."""
    if total < len(shares):
        return [total] + [0] * (len(shares) - 1)
    counts = [max(1, int(total * share)) for share in shares]
    while sum(counts) != total:
        step = 1 if sum(counts) < total else -1
        missing = [step * (total * share - count) for share, count in zip(shares, counts, strict=True)]
        allowed = [gap if count + step > 0 else -float("inf") for gap, count in zip(missing, counts, strict=True)]
        counts[allowed.index(max(allowed))] += step
    return counts

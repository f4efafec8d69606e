"""The split into training, validation and test tiles: a function of sources, labels and a seed. No pixels."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.imagery.folders import FoundTile
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import SPLITS, SplitName
from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.recipe.imagery import DataSettings, SplitSettings


def missing_splits(tiles: Sequence[FoundTile]) -> list[SplitName]:
    """The splits that neither a folder nor a table gives."""
    given = {tile.split for tile in tiles}
    return [name for name in SPLITS if name not in given]


def divide(
    tiles: Sequence[FoundTile], labels: Shaped[Tensor, "n *_"], kind: LabelKind, data: DataSettings
) -> Int[Tensor, " n"]:
    """The split of each tile. Splits that neither folders nor a table give are drawn from the training tiles.

    Raises:
        UserError: a split has no tile.
    """
    split = torch.tensor([SPLITS.index(tile.split or "train") for tile in tiles])
    if missing := missing_splits(tiles):
        rest = torch.nonzero(split == 0).flatten()
        sources = [tiles[number].source for number in rest.tolist()]
        among = [name for name in SPLITS if name == "train" or name in missing]
        split[rest] = random_split(sources, kind.strata(labels[rest]), data.split, among)
    empty = [name for code, name in enumerate(SPLITS) if not (split == code).any()]
    if empty:
        raise UserError(
            f"{data.root} has {len(tiles)} usable {'tile' if len(tiles) == 1 else 'tiles'}, and none for the "
            f"{' and the '.join(empty)} split. Training, validation and test need one tile each at the very least, "
            f"and hundreds to learn anything: add tiles or change data.split"
        )
    return split


def twins(sources: Sequence[Source], digests: Sequence[str], split: Sequence[int]) -> list[list[Source]]:
    """Sources with the same content that are in different splits, by split. Such copies inflate test scores."""
    alike: dict[str, list[int]] = defaultdict(list)
    for number, digest in enumerate(digests):
        alike[digest].append(number)
    return [
        [sources[number] for number in sorted(numbers, key=lambda number: split[number])]
        for numbers in alike.values()
        if len({split[number] for number in numbers}) > 1
    ]


def of_twins(found: Sequence[Sequence[Source]]) -> str:
    """Say how many copies there are, and name two."""
    count, pair = sum(map(len, found)), f"{found[0][0]} and {found[0][-1]}"
    return f"{count} tiles are copies of one another in different splits, such as {pair}: scores on them say too much"


def in_words(facts: Mapping[str, Any]) -> str:
    """Say which kind of split the scores rest on, and what it cannot rule out.

    Args:
        facts: those of the packed tiles.
    """
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
    sources: Sequence[Source], labels: Int[Tensor, " n"], split: SplitSettings, among: Sequence[SplitName] = SPLITS
) -> Int[Tensor, " n"]:
    """Split each class at random by the shares of the recipe: 0 train, 1 valid, 2 test.

    Args:
        labels: -1 for a tile without one; these tiles are divided like a class.
        among: the splits to divide between, train first; fewer than three if folders give the others.

    The split of a tile depends on the seed, its source and its rank in its class, not on the order of the tiles. One
    tile more or less moves at most the tiles at the borders. A class of three tiles or more is in every split, a
    smaller one in train only.
    """
    result = torch.zeros(len(sources), dtype=torch.int64)
    given = [getattr(split, name) for name in among]
    shares = [share / sum(given) for share in given]
    codes = torch.tensor([SPLITS.index(name) for name in among])
    for label in sorted(set(labels.tolist())):
        members = torch.nonzero(labels == label).flatten().tolist()
        members.sort(
            key=lambda tile: hashlib.blake2b(f"{split.seed}/{sources[tile]}".encode(errors="surrogateescape")).digest()
        )
        result[members] = codes.repeat_interleave(torch.tensor(_counts(len(members), shares)))
    return result


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Round total * shares to whole numbers that sum to total; none is 0 if total allows it."""
    if total < len(shares):
        return [total] + [0] * (len(shares) - 1)
    counts = [max(1, int(total * share)) for share in shares]
    while sum(counts) != total:
        step = 1 if sum(counts) < total else -1
        missing = [step * (total * share - count) for share, count in zip(shares, counts, strict=True)]
        allowed = [gap if count + step > 0 else -float("inf") for gap, count in zip(missing, counts, strict=True)]
        counts[allowed.index(max(allowed))] += step
    return counts

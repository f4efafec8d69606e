"""Dividing groups of tiles, such as blocks on the ground or scenes: all tiles of a group go to one split.

n  tiles     g  groups     c  classes     s  splits
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

MOST_TRIES, WORTH_TRYING = 20, 4000
"""Most divisions to choose from, and how many groups all of them together may have."""
PASSES = 20
"""Most times that each group is tried in the other splits."""
ABSENT = 100.0
"""What it costs that a split lacks tiles, or training tiles of a class: more than any deviation from the shares."""
UNSEEN = 1.0
"""What it costs that another split lacks a class."""


def divide_groups(
    names: Sequence[str],
    groups: Int[np.ndarray, " n"],
    strata: Int[np.ndarray, " n"],
    shares: Sequence[float],
    seed: int,
) -> Int[np.ndarray, " g"]:
    """The split of each group, by position among the shares.

    Groups are taken in a random order, which depends on the seed and their names, and each goes where it brings the
    numbers of tiles of each class nearest to the shares. Then groups move as long as a move brings them nearer. Few
    groups are divided several times, and the best division counts. The first share is for training: it gets tiles of
    every class if that can be.

    Args:
        names: of the groups.
        groups: the number of each tile's group.
        strata: the class of each tile, -1 for none.
    """
    counts = _counts(groups, strata, len(names))
    wanted = np.outer(shares, counts.sum(axis=0))
    tries = max(1, min(MOST_TRIES, WORTH_TRYING // len(names)))
    found = [_divided(counts, wanted, _order(names, seed, number)) for number in range(tries)]
    return min(found, key=lambda each: each[0])[1]


def _order(names: Sequence[str], seed: int, number: int) -> list[int]:
    """A random order of the groups."""
    return sorted(
        range(len(names)),
        key=lambda group: hashlib.blake2b(f"{seed}/{number}/{names[group]}".encode(errors="surrogateescape")).digest(),
    )


def _divided(
    counts: Float[np.ndarray, "g c"], wanted: Float[np.ndarray, "s c"], order: Sequence[int]
) -> tuple[float, Int[np.ndarray, " g"]]:
    """The cost of a division, and the split of each group."""
    totals = counts.sum(axis=0)
    have = np.zeros_like(wanted)
    result = np.zeros(len(counts), dtype=np.int64)
    for group in order:
        # How the squared deviations change where the group comes in; ties go to the split that comes first.
        change = (counts[group] * (counts[group] + 2 * (have - wanted)) / totals**2).sum(axis=1)
        result[group] = int(change.argmin())
        have[result[group]] += counts[group]
    _improve(result, have, counts, wanted, order)
    return float(_costs(have, wanted, totals).sum()), result


def _improve(
    result: Int[np.ndarray, " g"],
    have: Float[np.ndarray, "s c"],
    counts: Float[np.ndarray, "g c"],
    wanted: Float[np.ndarray, "s c"],
    order: Sequence[int],
) -> None:
    """Move single groups as long as a move lowers the cost."""
    totals = counts.sum(axis=0)
    for _ in range(PASSES):
        moved = False
        for group in order:
            here = result[group]
            without = have.copy()
            without[here] -= counts[group]
            costs = _costs(without, wanted, totals)
            filled = _costs(without + counts[group], wanted, totals)
            each = costs.sum() - costs + filled
            there = int(each.argmin())
            if each[there] < each[here] - 1e-9:
                result[group], moved = there, True
                have[:] = without
                have[there] += counts[group]
        if not moved:
            return


def _costs(
    have: Float[np.ndarray, "s c"], wanted: Float[np.ndarray, "s c"], totals: Float[np.ndarray, " c"]
) -> Float[np.ndarray, " s"]:
    """The cost of each split: squared deviations from the shares, and what is absent. The last class is all tiles."""
    absent = have == 0
    price = np.full_like(have, UNSEEN)
    price[0], price[:, -1] = ABSENT, ABSENT
    return (((have - wanted) / totals) ** 2 + absent * price).sum(axis=1)


def _counts(groups: Int[np.ndarray, " n"], strata: Int[np.ndarray, " n"], count: int) -> Float[np.ndarray, "g c"]:
    """Tiles of each class in each group, and in the last column all its tiles."""
    kinds, column = np.unique(strata, return_inverse=True)
    counts = np.zeros((count, len(kinds) + 1))
    np.add.at(counts, (groups, column), 1)
    counts[:, -1] = counts.sum(axis=1)
    return counts

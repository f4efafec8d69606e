"""Average precision of tiles with several labels, and its variation over samples of test tiles.

    n  tiles     c  classes     b  resamplings

The average precision of a class is the mean of the precision at the score of each tile of that class (scikit-learn's
average_precision_score). mAP is its mean over the classes that occur.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from gcl_custom.errors import UserError
from gcl_custom.measures import block_bootstrap
from gcl_custom.randomness import derive

DRAWS = 1000
CHUNK = 2**22
"""The most weights that are in memory at a time."""


def average_precisions(
    scores: Float[np.ndarray, "n c"],
    truth: Bool[np.ndarray, "n c"],
    weights: Shaped[np.ndarray, "b n"] | None = None,
) -> Float[np.ndarray, "b c"]:
    """Average precision of each class; NaN for a class without a tile.

    Args:
        weights: how often each tile counts; by default once.

    Raises:
        UserError: a score is not a number, and so has no place among the others.
    """
    if unordered := int(np.isnan(scores).any(axis=1).sum()):
        raise no_numbers(unordered, len(scores))
    weights = np.ones((1, len(scores))) if weights is None else weights
    found = np.full((len(weights), scores.shape[1]), np.nan)
    for label in range(scores.shape[1]):
        order = np.argsort(-scores[:, label], kind="stable")
        falling, bears = scores[order, label], truth[order, label]
        places = np.flatnonzero(bears)
        if not len(places):
            continue
        # Tiles with equal scores enter together, so the precision is taken after the last of them.
        ends = np.searchsorted(-falling, -falling[places], side="right") - 1
        counted = weights[:, order].astype(np.float64)
        among = counted[:, places]
        all_tiles = np.cumsum(counted, axis=1)[:, ends]
        bearing = np.cumsum(counted * bears, axis=1)[:, ends]
        precision = np.divide(bearing, all_tiles, out=np.zeros_like(bearing), where=all_tiles > 0)
        total = among.sum(axis=1)
        summed = (among * precision).sum(axis=1)
        found[:, label] = np.divide(summed, total, out=np.full_like(summed, np.nan), where=total > 0)
    return found


def no_numbers(tiles: int, among: int) -> UserError:
    """The error for scores that are not a number."""
    return UserError(
        f"The scores of {tiles} of {among} tiles are not numbers, so they say nothing: the network that gave them has "
        f"diverged. Lower its learning rate, or set hardware.precision: fp32"
    )


def mean_average_precision(scores: Float[np.ndarray, "n c"], truth: Bool[np.ndarray, "n c"]) -> float:
    """mAP over the classes that occur.

    Raises:
        ValueError: none occurs.
    """
    if not truth.any():
        raise ValueError("mAP needs a tile with a label")
    return float(np.nanmean(average_precisions(scores, truth)))


def resampled(
    scores: Float[np.ndarray, "seeds n c"], truth: Bool[np.ndarray, "n c"], of: Int[np.ndarray, "n"] | None = None
) -> Float[np.ndarray, "b"]:
    """mAP, averaged over seeds, on each of many samples of the test tiles, drawn with replacement (the bootstrap).

    The samples depend only on the number of tiles, so differences between calls are paired. A class that does not occur
    in a sample is left out of that sample's mean.

    Args:
        of: the number of each tile's block; all tiles of a block are then drawn together.
    """
    tiles = len(truth)
    if of is not None:
        numbers, count = block_bootstrap.numbered(of)
        drawn_tiles = (drawn[:, numbers] for drawn in block_bootstrap.draws_of_blocks(count, DRAWS, tiles))
        return np.concatenate([_means(scores, truth, drawn) for drawn in drawn_tiles])
    rng = np.random.default_rng(derive(0, "bootstrap", tiles))
    parts = []
    step = max(1, CHUNK // tiles)
    for start in range(0, DRAWS, step):
        drawn = rng.multinomial(tiles, np.full(tiles, 1 / tiles), size=min(step, DRAWS - start))
        parts.append(_means(scores, truth, drawn))
    return np.concatenate(parts)


def _means(
    scores: Float[np.ndarray, "seeds n c"], truth: Bool[np.ndarray, "n c"], drawn: Int[np.ndarray, "b n"]
) -> Float[np.ndarray, "b"]:
    """mAP, averaged over seeds, on tiles that are drawn so often."""
    means: Float[np.ndarray, b] = np.mean(
        [np.nanmean(average_precisions(rows, truth, drawn), axis=1) for rows in scores], axis=0
    )
    return means

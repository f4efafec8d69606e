"""Overlap of predicted and true masks, and its variation over samples of test tiles.

    n  tiles     c  classes     h w  pixels     b  resamplings

The intersection over union (IoU) of a class is taken over the pixels of all tiles together. mIoU is its mean over the
classes that occur in the true masks. A class that is only said, and true nowhere, costs the classes that it is said in
place of.
"""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from gcl_custom.measures import block_bootstrap
from gcl_custom.randomness import derive

IGNORED = 255
"""In a mask: a pixel without a class. It is learnt from nowhere and scored nowhere."""
DRAWS = 1000


def overlaps(said: Int[Tensor, "n h w"], true: UInt8[Tensor, "n h w"], classes: int) -> Int[Tensor, "n c 2"]:
    """Pixels in the intersection and in the union, for each tile and class."""
    tiles = len(said)
    counted = true != IGNORED
    pairs = true.long() * classes + said
    pairs = pairs + torch.arange(tiles, device=pairs.device)[:, None, None] * classes**2
    matrix = torch.bincount(pairs[counted], minlength=tiles * classes**2).reshape(tiles, classes, classes)
    inside = matrix.diagonal(dim1=1, dim2=2)
    return torch.stack([inside, matrix.sum(1) + matrix.sum(2) - inside], dim=2)


def _iou(inside: Shaped[np.ndarray, "*b c"], union: Shaped[np.ndarray, "*b c"]) -> Float[np.ndarray, "*b c"]:
    return np.divide(inside, union, out=np.full(union.shape, np.nan), where=union > 0)


def mean_iou(found: Shaped[np.ndarray, "n c 2"], truth: Shaped[np.ndarray, "n c"]) -> float:
    """mIoU over the classes that occur.

    Args:
        found: as ``overlaps`` gives it.
        truth: true pixels of each class in each tile.

    Raises:
        ValueError: none occurs.
    """
    occur = truth.sum(0) > 0
    if not occur.any():
        raise ValueError("mIoU needs a pixel with a class")
    inside, union = found.sum(0)[occur].T
    return float(_iou(inside, union).mean())


def resampled(
    found: Shaped[np.ndarray, "seeds draws n c 2"],
    truth: Shaped[np.ndarray, "n c"],
    of: Int[np.ndarray, "n"] | None = None,
) -> Float[np.ndarray, "b"]:
    """mIoU, averaged over seeds and draws of labels, on each of many samples of the test tiles (the bootstrap).

    Tiles are drawn with replacement, and so are the draws of labels where there are several. The samples depend only
    on both numbers, so differences between calls are paired. A class that does not occur in a sample is left out of
    that sample's mean.

    Args:
        of: the number of each tile's block; all tiles of a block are then drawn together.
    """
    seeds, draws, tiles = found.shape[:3]
    rng = np.random.default_rng(derive(0, "bootstrap", tiles))
    numbers, count = (np.arange(tiles), tiles) if of is None else block_bootstrap.numbered(of)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)[:, numbers].astype(np.float64)
    of_draws = rng.multinomial(draws, np.full(draws, 1 / draws), size=DRAWS) / draws
    occur = weights @ truth > 0
    total = np.zeros(DRAWS)
    for seed in range(seeds):
        for draw in range(draws):
            inside, union = (weights @ found[seed, draw, :, :, part] for part in (0, 1))
            values = np.where(occur, _iou(inside, union), 0).sum(1) / np.maximum(occur.sum(1), 1)
            total += values * of_draws[:, draw]
    return np.asarray(total / seeds)

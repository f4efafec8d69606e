"""How good representations may be, told without labels: RankMe, LiDAR, the slope of their spectrum; and likeness.

    n  tiles     q  views of each tile     d  width of a representation

RankMe (arXiv:2210.02885) is ``collapse.effective_rank`` of the tiles' representations. None of these figures knows what
the representations are for: they tell how many directions are in use, not whether these are the ones that matter.
Computed in float64.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

DELTA = 1e-4
"""Of LiDAR's regulariser, relative to the mean variance of a number of the representation."""
FITTED = (3, 100)
"""First and last rank, counted from 1, of the eigenvalues that the slope of a spectrum is fitted to."""
ROUNDING = 1e-9
"""Eigenvalues below this share of the largest, and deviations below this share of the mean, are rounding errors."""


def lidar(representations: Float[Tensor, "n q d"], delta: float = DELTA) -> float:
    """LiDAR (arXiv:2312.04000): effective rank of what tells tiles apart beyond what tells views of a tile apart.

    Each tile is a class, its q views are the class's samples. With m_i the mean of tile i's views, and m of all:

        S_b = sum_i (m_i - m)(m_i - m)^T / (n - 1)
        S_w = sum_ij (z_ij - m_i)(z_ij - m_i)^T / (n (q - 1)) + delta I
        LiDAR = exp(-sum_k p_k log p_k),  p_k the shares of the eigenvalues of S_w^(-1/2) S_b S_w^(-1/2)

    from 1, where everything is one direction or one point, to min(n - 1, d).

    Unlike the paper, delta is relative to the mean diagonal entry of both scatters, so that the figure does not change
    when representations are scaled: pretraining with other settings may well scale them.

    Raises:
        ValueError: fewer than two tiles or two views.
    """
    n, q, d = representations.shape
    if n < 2 or q < 2:
        raise ValueError(f"LiDAR needs two tiles and two views of each, not {n} and {q}")
    z = representations.double()
    means = z.mean(1)
    between = (means - means.mean(0)) / math.sqrt(n - 1)
    inner = (z - means[:, None]).reshape(n * q, d) / math.sqrt(n * (q - 1))
    spread = float(between.square().sum() + inner.square().sum()) / d
    if between.norm() <= ROUNDING * means.norm() / math.sqrt(n):
        return 1.0
    within = inner.T @ inner + delta * spread * torch.eye(d, dtype=z.dtype, device=z.device)
    # With S_w = L L^T, the eigenvalues are the squared singular values of L^-1 times the centred means.
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(within), between.T, upper=False)
    eigenvalues = torch.linalg.svdvals(whitened).square()
    return float(torch.special.entr(eigenvalues / eigenvalues.sum()).sum().exp())


def spectrum_slope(representations: Float[Tensor, "n d"]) -> float:
    """alpha of alpha-ReQ (Agrawal et al., NeurIPS 2022): the covariance's k-th eigenvalue falls like k^-alpha.

    A least-squares line through log eigenvalue over log rank k, for the ranks of FITTED that there are: the first two
    are left out, since they seldom lie on the line of the others, and so is the tail, which a few hundred tiles do not
    tell. The paper finds alpha near 1 good: above, few directions are in use; below, noise has as many as the content.

    Returns:
        0 for a flat spectrum; infinity where fewer than two eigenvalues to fit are above rounding, which is collapse.
    """
    centred = representations.double() - representations.double().mean(0)
    eigenvalues = torch.linalg.svdvals(centred).square()
    first, last = FITTED
    ranks = torch.arange(first, min(last, len(eigenvalues)) + 1, device=eigenvalues.device)
    least = torch.maximum(ROUNDING * eigenvalues[0], ROUNDING**2 * representations.double().square().sum())
    ranks = ranks[eigenvalues[ranks - 1] > least]
    if len(ranks) < 2:
        return math.inf
    x, y = ranks.double().log(), eigenvalues[ranks - 1].log()
    x = x - x.mean()
    return float(-(x * y).sum() / x.square().sum())


def likeness(tiles: Float[Tensor, "n d"], views: Float[Tensor, "n d"]) -> float:
    """Mean cosine similarity of each tile's features and its view's: 1 where views show what the tiles do."""
    return float(torch.nn.functional.cosine_similarity(tiles.double(), views.double(), dim=1).mean())

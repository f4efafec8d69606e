"""LiDAR: the number of directions of a representation that tell tiles apart, without labels.

    n  tiles     q  views of each tile     d  width of a representation

Like RankMe (``collapse.effective_rank``), it does not know what the representation is for: it counts the directions in
use, not those that matter. It is computed in float64.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

DELTA = 1e-4
"""LiDAR's regulariser, relative to the mean variance of a feature."""
ROUNDING = 1e-9
"""A deviation below this share of the mean is a rounding error."""


def lidar(representations: Float[Tensor, "n q d"], delta: float = DELTA) -> float:
    """LiDAR (arXiv:2312.04000): effective rank of the scatter between tiles, whitened by the scatter between views.

    Each tile is a class, and its q views are the class's samples. With m_i the mean of tile i's views, and m of all:

        S_b = sum_i (m_i - m)(m_i - m)^T / (n - 1)
        S_w = sum_ij (z_ij - m_i)(z_ij - m_i)^T / (n (q - 1)) + delta I
        LiDAR = exp(-sum_k p_k log p_k),  p_k the shares of the eigenvalues of S_w^(-1/2) S_b S_w^(-1/2)

    It lies between 1, for a single direction or a single point, and min(n - 1, d).

    Unlike in the paper, delta is relative to the mean diagonal entry of both scatters. So LiDAR does not change when
    representations are scaled, as other settings of pretraining may do.

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

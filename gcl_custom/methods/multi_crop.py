"""Multi-crop (SwAV, Caron et al., arXiv:2006.09882, section 3.3): small crops of a tile beside its two large views.

    loss = mean over pairs of a large view x and another view x' of  l(x, x')

Small crops are compared with the large views, never with each other. Where l does not ask which view comes first, it is

    ( 2 l(x_1, x_2) + Σ_x' [ l(x_1, x') + l(x_2, x') ] ) / (2 + 2 m)    over the m small crops x'

as in the authors' code of VICRegL (arXiv:2210.01571). Without small crops it is l(x_1, x_2), to the last bit.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

LARGE = 2
"""The first views are the large ones."""


def over_pairs(loss: Callable[[Tensor, Tensor], Tensor], views: Sequence[Float[Tensor, "n d"]]) -> Tensor:
    """The mean of a loss over pairs of a large view and another one.

    Args:
        loss: of two views, in either order.
        views: the two large ones, then the small crops, if any.
    """
    large, small = views[:LARGE], views[LARGE:]
    total = 2 * loss(*large)
    for crop in small:
        total = total + loss(large[0], crop) + loss(large[1], crop)
    return total / (2 + 2 * len(small))


def over_views(loss: Callable[[Tensor], Tensor], views: Sequence[Float[Tensor, "n d"]]) -> Tensor:
    """The mean of a loss over all views."""
    return torch.stack([loss(view) for view in views]).mean()

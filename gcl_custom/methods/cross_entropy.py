"""The cross-entropy that DINO and SwAV share: the target from a large view is predicted from the other views.

b  tiles in the batch of this process     t  the two large views     s  all views, the large ones first
k  classes or prototypes
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gcl_custom.methods.method import Scalar


def cross_entropy(wanted: Float[Tensor, "t b k"], logp: Float[Tensor, "s b k"]) -> Scalar:
    """Mean over tiles and over pairs of a large view and another view."""
    each = -torch.einsum("tbk,sbk->ts", wanted, logp)
    pairs = each.numel() - len(wanted)
    return (each.sum() - each.diagonal().sum()) / (pairs * wanted.shape[1])

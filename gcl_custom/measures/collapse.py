"""Signs of collapse, which a falling loss does not show.

b  tiles     d  width of a representation
"""

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_STD = 0.1
LEAST_RANK = 2.0
LEAST_TILES = 4
"""Fewer tiles look alike by chance: two have a rank below 2 whatever they show."""


def embedding_std(representations: Float[Tensor, "b d"]) -> float:
    """Standard deviation over tiles of the L2-normalised representation, averaged over its d features, times √d.

    It is 1 if directions are spread evenly about the origin, and 0 if all tiles have the same one. SimSiam
    (arXiv:2011.10566, section 4.1) has it without the √d. Representations after a ReLU lie in one orthant and stay well
    below 1.
    """
    directions = torch.nn.functional.normalize(representations.float(), dim=1)
    return float(directions.std(dim=0).mean() * directions.shape[1] ** 0.5)


def effective_rank(representations: Float[Tensor, "b d"]) -> float:
    """RankMe (arXiv:2210.02885, eq. 1-2): exp of the entropy of the singular values' shares, from 1 to min(b, d)."""
    values = torch.linalg.svdvals(representations.float())
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny) + 1e-7
    return float(torch.exp(-(shares * shares.log()).sum()))


def warning(std: float, rank: float) -> str | None:
    """The warning to a user whose representations have collapsed; None if they have not."""
    if std >= LEAST_STD and rank >= LEAST_RANK:
        return None
    return (
        f"The representations are collapsing: their standard deviation is {std:.3f} (1 is spread evenly, below "
        f"{LEAST_STD} nearly equal) and their effective rank {rank:.1f}. Tiles can then hardly be told apart, whatever "
        f"the loss says. Lower pretrain.optimizer.learning_rate, lengthen pretrain.warmup, or try another "
        f"pretrain.method"
    )

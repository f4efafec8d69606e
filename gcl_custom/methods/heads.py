"""The small networks between a representation and a loss."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def projector(widths: Sequence[int], bias: bool = False) -> nn.Sequential:
    """Linear, batch normalisation, ReLU for each layer but the last, which is linear alone.

    That is the projector of VICReg (arXiv:2105.04906, appendix C.1) and of Barlow Twins. A bias before batch
    normalisation has no effect, so none is kept where some authors have one. The last layer of others differs: the
    authors of SwAV give it a bias, those of SimCLR a batch normalisation with a scale. For BYOL, section 3.3 of
    arXiv:2006.07733 leaves the bias of the last layer open; its authors' code has none, lightly's has one, and so has
    ours, with ``bias``.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=bias))

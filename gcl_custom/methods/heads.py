"""The small networks between a representation and a loss."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def projector(widths: Sequence[int], bias: bool = False) -> nn.Sequential:
    """Linear, batch normalisation, ReLU for each layer but the last, which is linear alone.

    That is the projector of VICReg (arXiv:2105.04906, appendix C.1) and of Barlow Twins, SwAV and SimCLR; with a bias
    in the last layer that of BYOL (arXiv:2006.07733, section 3.3).
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=bias))

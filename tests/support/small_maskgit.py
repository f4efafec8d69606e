"""A small MaskGIT away from the start of its training, and tokens for it."""

import torch

from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.recipe.generator import MaskGITSettings as Settings

CODES, GRID = 11, 4


def small(dropout: float = 0.0, seed: int = 0) -> MaskGIT:
    torch.manual_seed(seed)
    model = MaskGIT(CODES, GRID, Settings(width=32, depth=3, heads=2, dropout=dropout))
    with torch.no_grad():  # away from the start of training, so that a wrong position shows
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def example(tiles: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randint(CODES, (tiles, GRID, GRID)), torch.rand(tiles, GRID, GRID) < 0.4

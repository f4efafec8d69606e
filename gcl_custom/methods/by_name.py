"""The contrastive methods by their names in a recipe."""

from collections.abc import Callable
from typing import Any

from torch import nn

from gcl_custom.methods.barlow_twins import BarlowTwins
from gcl_custom.methods.byol import BYOL
from gcl_custom.methods.dino import DINO
from gcl_custom.methods.distil import Distil
from gcl_custom.methods.lejepa import LeJEPA
from gcl_custom.methods.method import Method
from gcl_custom.methods.simclr import SimCLR
from gcl_custom.methods.swav import SwAV
from gcl_custom.methods.vicreg import VICReg

METHODS: dict[str, Callable[[nn.Module, int, Any], Method]] = {
    "vicreg": VICReg,
    "barlow_twins": BarlowTwins,
    "simclr": SimCLR,
    "byol": BYOL,
    "dino": DINO,
    "swav": SwAV,
    "lejepa": LeJEPA,
    "distil": Distil,
}
"""Each is built from the backbone (some keep a copy), the width of a representation, and its section of the recipe."""

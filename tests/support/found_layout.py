"""The tiles of a root, found as a recipe with these settings finds them."""

from pathlib import Path

from gcl_custom.imagery.folders import Layout, find_tiles
from gcl_custom.recipe.imagery import Card, DataSettings


def tiles_in(root: Path, card: Card | None = None, **data: object) -> Layout:
    return find_tiles(DataSettings(root=str(root), **data), card)

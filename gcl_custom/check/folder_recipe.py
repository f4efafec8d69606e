"""The recipe of a folder of images, for a first try: a shipped one, fitted to what lies in the folder."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from gcl_custom.imagery.decoding import Unusable, reading
from gcl_custom.imagery.folders import FoundTile, common_form, layout_of
from gcl_custom.imagery.read_tile import side_of
from gcl_custom.imagery.tile_store import spread
from gcl_custom.imagery.values.bands import is_rgb
from gcl_custom.recipe.file import band_names, card_of, load_recipe, shipped
from gcl_custom.recipe.names import run_name
from gcl_custom.recipe.recipe import Recipe

COLOUR, OTHER = "small-rgb", "small-bands"
"""Shipped recipes: for red, green and blue, and for any other bands."""
MEANT_FOR = 2000
"""Training tiles for which the epochs of these recipes are meant."""
MOST_REPEATED = 4
"""How many times as many epochs fewer tiles get at most."""
MEASURED = 48
"""Most files whose sides are measured, spread evenly over the paths."""
SMALLER = 0.05
"""Share of files that may be smaller than a tile; see data.bad_files."""


def folder_recipe(folder: Path, overrides: Sequence[str]) -> tuple[str, Recipe]:
    """The name of the shipped recipe that suits the images of a folder, and the recipe fitted to them.

    Args:
        overrides: texts ``key.path=value`` of the user, which come last.

    Raises:
        UserError: there is no image, or none that can be read; or the overrides have mistakes.
    """
    own = [f"name={json.dumps(run_name(folder))}", f"data.root={json.dumps(str(folder))}"]
    data = load_recipe(shipped("recipes")[OTHER], [*own, *overrides]).data
    tiles = layout_of(data, card_of(data)).tiles
    with reading():
        form = common_form(Path(data.root), tiles, band_names(data), data.use_bands, data.mask_band, data.scenes)
        sides = [data.scenes.side(data.size)] if data.scenes else sorted(shorter_sides(Path(data.root), tiles))
    name = COLOUR if is_rgb(form) else OTHER
    base = load_recipe(shipped("recipes")[name], own)
    size = base.data.size
    if sides:
        fitting = sides[int(SMALLER * len(sides))] // 8 * 8
        size = max(16, min(size, fitting))
    drawn = 1.0 if any(tile.split for tile in tiles) else data.split.train
    train = drawn * sum(tile.split in (None, "train") for tile in tiles)
    fitted = [f"data.size={size}", *_epochs(base, train)]
    return name, load_recipe(shipped("recipes")[name], [*own, *fitted, *overrides])


def shorter_sides(root: Path, tiles: Sequence[FoundTile]) -> Iterator[int]:
    """The shorter sides of some files, in pixels."""
    for number in spread(torch.arange(len(tiles)), MEASURED).tolist():
        try:
            yield side_of(root, tiles[number].source)
        except Unusable:
            continue


def _epochs(base: Recipe, train: float) -> Iterator[str]:
    """Overrides that keep the steps of each training and of its evaluations, as far as few tiles bear repetition."""
    times = min(MOST_REPEATED, MEANT_FOR / max(1.0, train))
    keys = {"pretrain.epochs": base.pretrain.epochs, "pretrain.probe_every": base.pretrain.probe_every}
    if base.pretrain.source == "inpainted":
        keys["generator.tokenizer.epochs"] = base.tokens.tokenizer.epochs
        keys["generator.maskgit.epochs"] = base.tokens.maskgit.epochs
    for key, epochs in keys.items():
        yield f"{key}={max(1, round(epochs * times))}"

"""The card that init writes beside its recipe: what was found of the images, and lines for what only their user knows.

It leaves the reading of folders as it is without a card: splits and classes stand in comments. Names of bands stand in
it only where all files give the same ones, and all bands are taken in their order.
"""

from pathlib import Path
from typing import Any

import numpy as np

from gcl_custom.check.found_tiles import FoundTiles
from gcl_custom.check.recipe_text import recipe_text
from gcl_custom.console import plain
from gcl_custom.counted import counted
from gcl_custom.imagery.folders import Layout
from gcl_custom.imagery.places.coordinates import known
from gcl_custom.imagery.tile_store import SPLITS
from gcl_custom.imagery.values.summary import of_a_file
from gcl_custom.recipe.file import check_values, parse_yaml
from gcl_custom.recipe.imagery import Card
from gcl_custom.recipe.names import run_name
from gcl_custom.recipe.recipe import Recipe

YOURS = "ONLY YOU KNOW"
"""Begins the comment on what no file says."""
NOT_STATED = "not stated"
MOST_CLASSES, MOST_FORMS = 100, 5
"""Classes, and forms of files, that a comment names."""


def card_beside(recipe: Path) -> Path:
    """The path of a recipe's own card."""
    return recipe.with_suffix(f".card{recipe.suffix}")


def found_card(recipe: Recipe, tiles: FoundTiles, layout: Layout) -> str:
    """The text of a card, with which the tiles, labels, bands and splits are those without one."""
    root = Path(recipe.data.root)
    values: dict[str, Any] = {
        "name": run_name(root),
        "title": plain(root.resolve().name) or run_name(root),
        "source": NOT_STATED,
        "licence": NOT_STATED,
        "layout": "recognised",
    }
    bands = f"{counted(tiles.form.bands, 'band')} of {tiles.form.dtype}{of_a_file(tiles.form)}"
    names = tiles.form.names if tiles.form.choice is None else None
    found = [*_found(tiles, layout), *([] if names else [f"{bands}{_names(tiles)}"])]
    reasons = {
        "title": "the folder's name; reports and exported model cards call the data set so",
        "source": f"{YOURS}: where the images come from, and whom to name for them",
        "licence": f"{YOURS}: under which licence they may be used. Exported model cards repeat it",
        "layout": "\n".join([*found, "recognised: splits and classes are those that the folders, or a table, give"]),
        "notes": f"{YOURS}: what a reader of scores should know, such as classes that come from different places",
    }
    if names:
        values["bands"] = list(names)
        reasons["bands"] = f"{bands}, as all files call them"
    values["notes"] = ""
    head = (
        f"The card of the images in {root}, written by gcl-custom init: what was found there, and what only you know, "
        f"in the lines marked so.\nIt changes nothing of how the images are read. init never writes over it."
    )
    text = recipe_text(head, values, reasons)
    assert check_values(Card, parse_yaml(text, "card"), "card").model_dump(exclude_defaults=True) == {
        key: value for key, value in values.items() if value
    }, "the text holds what was chosen"
    return text


def _found(tiles: FoundTiles, layout: Layout) -> list[str]:
    """Numbers of tiles, by split and by class, the forms of files, and places."""
    files = len({tile.source.path for tile in layout.tiles})
    windows = any(tile.source.window for tile in layout.tiles)
    parts = ", ".join(f"{name} {tiles.count(name):,}" for name in SPLITS if tiles.count(name))
    of = f"{counted(len(tiles.split), 'window')} of {counted(files, 'scene')}" if windows else counted(files, "tile")
    lines = [f"{of} ({parts}). {tiles.told}"]
    if tiles.classes:
        counts = [int(tiles.kind.bears(tiles.labels, label).sum()) for label in range(len(tiles.classes))]
        shown = [f"{name} ({count:,})" for name, count in zip(tiles.classes, counts, strict=True)]
        more = f", and {len(shown) - MOST_CLASSES:,} more" if len(shown) > MOST_CLASSES else ""
        named = "values of masks" if tiles.kind.dense else "classes"
        lines.append(f"tiles of {len(shown)} {named}: {', '.join(shown[:MOST_CLASSES])}{more}")
        without = int((~tiles.has_label).sum())
        lines += [f"without a label: {counted(without, 'tile')}"] if without else []
    if tiles.kind.dense:
        lines.append(f"{YOURS}: what the values mean. Name them, from 0 on: classes: [FIRST, SECOND]")
    if tiles.inventory:
        forms = tiles.inventory.forms
        for form, count in forms[:MOST_FORMS]:
            where = form.projection or "no coordinates"
            lines.append(
                f"{counted(count, 'file')}: {form.kind}, {form.width:,} x {form.height:,} px, "
                f"{counted(form.bands, 'band')} of {form.dtype}, {where}"
            )
        lines += [f"and {counted(len(forms) - MOST_FORMS, 'more form')} of files"] if len(forms) > MOST_FORMS else []
    if tiles.places is not None:
        there = tiles.places[known(tiles.places)]
        (west, south), (east, north) = np.min(there, axis=0), np.max(there, axis=0)
        lines.append(
            f"{counted(len(there), 'tile')} with a place: longitude {west:.4f} to {east:.4f}, latitude {south:.4f} to "
            f"{north:.4f}"
        )
    return lines


def _names(tiles: FoundTiles) -> str:
    """What to say of the bands where the card does not name them."""
    if tiles.rgb:
        return ", taken for red, green and blue"
    if tiles.form.choice:
        return ", chosen by data.use_bands of the recipe"
    return f". {YOURS}: what they are. Name them in the files' order: bands: [FIRST, SECOND]"

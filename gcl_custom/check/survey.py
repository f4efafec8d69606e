"""Surveying imagery: the tiles that packing would find, and the files that it could not use."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from gcl_custom.check.estimates import FoundTiles
from gcl_custom.console import progress, say, warn
from gcl_custom.errors import UserError
from gcl_custom.imagery import synthetic_scenes
from gcl_custom.imagery.decoding import NODATA, Form, Tile, Unusable, reading
from gcl_custom.imagery.folders import FoundTile, Layout, common_form, is_rgb, layout_of
from gcl_custom.imagery.mask_files import read_labels
from gcl_custom.imagery.read_tile import excess, in_kinds, read_tile, remarks, without_data
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.splits import divide, of_twins, twins
from gcl_custom.recipe.file import band_names, load_card
from gcl_custom.recipe.imagery import DataSettings

MOST_READ = 4000
"""Most files that are read. Of more files, some are chosen, spread evenly over the paths."""


def survey(data: DataSettings) -> FoundTiles:
    """Find the tiles and read files, as packing would. Synthetic scenes that are not drawn yet are only counted.

    Raises:
        UserError: packing would raise it, too.
    """
    root = Path(data.root)
    card = load_card(data.card) if data.card else None
    if data.synthetic and not (root.is_dir() and any(root.iterdir())):
        say(f"data.root: {data.synthetic.tiles} synthetic scenes would be drawn into {root}")
        names = list(synthetic_scenes.CLASSES)
        scenes = [
            FoundTile(Source(f"{number:05d}.tif"), None, names[number % len(names)])
            for number in range(data.synthetic.tiles)
        ]
        form = Form(4, "uint16") if data.synthetic.near_infrared else Form(3, "uint8")
        return _tiles(Layout(scenes, names, []), form, data)
    layout = layout_of(data, card)
    for note in layout.notes:
        warn(f"{root}: {note}")
    with reading():
        form = common_form(root, layout.tiles, band_names(data))
        bad, digests = unusable(root, layout.tiles, form, data)
        usable = [tile for tile in layout.tiles if tile.source not in bad]
        found = _tiles(replace(layout, tiles=usable), form, data)
    splits = {tile.source: code for tile, code in zip(usable, found.split.tolist(), strict=True)}
    if copies := twins(list(digests), list(digests.values()), [splits[source] for source in digests]):
        warn(of_twins(copies))
    return found


def _tiles(layout: Layout, form: Form, data: DataSettings) -> FoundTiles:
    classes, labels = read_labels(Path(data.root), layout, layout.tiles, data)
    split = divide(layout.tiles, labels, layout.kind, data)
    return FoundTiles(form, is_rgb(band_names(data), form), classes, labels, layout.kind, split)


def unusable(
    root: Path, tiles: Sequence[FoundTile], form: Form, data: DataSettings
) -> tuple[dict[Source, Unusable], dict[Source, str]]:
    """Read files, and tell the user about the unusable ones.

    Returns:
        The reasons of all without a tile, and the digests of the others.

    Raises:
        UserError: none can be used.
    """
    step = math.ceil(len(tiles) / MOST_READ)
    chosen = [tile.source for tile in tiles[::step]]
    with ThreadPoolExecutor() as pool, progress(len(chosen), "reading files", "files") as bar:
        bad: dict[Source, Unusable] = {}
        good: list[Tile] = []
        digests: dict[Source, str] = {}
        looks = pool.map(partial(_look, root=root, form=form, data=data), chosen)
        for source, (tile, digest) in zip(chosen, looks, strict=True):
            if isinstance(tile, Unusable):
                bad[source] = tile
            else:
                good.append(tile)
                digests[source] = digest
            bar.advance()
    for note in remarks(good):
        warn(note)
    read = f"all {len(chosen):,} files were read" if step == 1 else f"{len(chosen):,} of {len(tiles):,} files were read"
    kinds = [problem.kind for problem in bad.values()]
    empty = kinds.count(NODATA)
    if len(bad) == empty:
        say(f"unusable files: none ({read})")
    else:
        warn(f"unusable files: {len(bad) - empty} ({in_kinds(kinds)}; {read})")
    for source in sorted((source for source in bad if bad[source].kind != NODATA), key=str)[:5]:
        say(f"  {source}: {bad[source]}")
    if empty:
        warn(without_data(empty, len(chosen), data))
    if len(bad) == len(chosen):
        causes = ", ".join(cause for cause in (in_kinds(kinds), f"{empty} nodata" if empty else "") if cause)
        raise UserError(
            f"no file of {root} can be used ({causes}; {read}). Mend or remove them, or change the settings that their "
            f"reasons name"
        )
    for reason in excess(kinds, len(chosen), data):
        warn(f"packing would stop: {reason}")
    return bad, digests


def _look(source: Source, root: Path, form: Form, data: DataSettings) -> tuple[Tile | Unusable, str]:
    """The tile, without its pixels, and the digest."""
    found = read_tile(root, source, form, data)
    tile = found.tile()
    return tile if isinstance(tile, Unusable) else tile._replace(pixels=tile.pixels[:, :0].copy()), found.digest()

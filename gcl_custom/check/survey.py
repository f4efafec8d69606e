"""Surveying imagery: the tiles that packing would find, and the files that it could not use."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped
from rasterio.errors import RasterioError
from rich.table import Table
from torch import Tensor

from gcl_custom.check.fill_values import fill_values
from gcl_custom.check.found_tiles import FoundTiles
from gcl_custom.check.inventory import Inventory, Seen, form_cells, form_of_scene, seen
from gcl_custom.console import console, progress, say, warn
from gcl_custom.counted import counted, examples
from gcl_custom.errors import UserError
from gcl_custom.imagery import synthetic_scenes
from gcl_custom.imagery.decoding import SCENE, Form, Tile, Unusable, reading
from gcl_custom.imagery.folders import FoundTile, Layout, common_form, layout_of
from gcl_custom.imagery.left_out import LEFT_OUT, excess, in_kinds, left_out, remarks
from gcl_custom.imagery.mask_files import read_labels
from gcl_custom.imagery.places.coordinates import known
from gcl_custom.imagery.places.near_duplicates import Hashes, difference_hashes, near_pairs
from gcl_custom.imagery.places.nearness import nearness
from gcl_custom.imagery.read_tile import Read, ReadTile, footprints, on_earth, read_all, read_tile, where_cut
from gcl_custom.imagery.scenes.remote import located
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.splits import apart, divide, in_words, needs_places, of_alike, of_twins, places_of, twins
from gcl_custom.imagery.tile_store import tensor_of
from gcl_custom.imagery.values.bands import is_rgb, with_bands
from gcl_custom.imagery.values.summary import lacking, require_values
from gcl_custom.recipe.file import band_names, card_of
from gcl_custom.recipe.imagery import DataSettings

MOST_FORMS = 12
"""Most forms of files in the table on the console."""
MOST_READ = 4000
"""Most files that are read. Of more files, some are chosen, spread evenly over the paths."""


LARGER = 4
"""How many times as large as a tile a file with coordinates is, from which on it is told that scenes can be cut."""


class Look(NamedTuple):
    """What is kept of a file that was read."""

    tile: Tile
    """Without its pixels."""
    digest: str
    place: tuple[float, float] | None
    hash: Hashes
    telling: Bool[np.ndarray, " 1"]
    """Whether it shows enough for its hash to be compared."""
    seen: Seen


def survey(data: DataSettings) -> FoundTiles:
    """Find the tiles and read files, as packing would. Synthetic scenes that are not drawn yet are only counted.

    Raises:
        UserError: packing would raise it, too.
    """
    root = Path(data.root)
    card = card_of(data)
    if data.synthetic and not (root.is_dir() and any(root.iterdir())):
        say(f"data.root: {data.synthetic.tiles} synthetic scenes would be drawn into {root}")
        names = list(synthetic_scenes.CLASSES)
        scenes = [
            FoundTile(Source(f"{number:05d}.tif"), None, names[number % len(names)])
            for number in range(data.synthetic.tiles)
        ]
        drawn = Form(4, "uint16") if data.synthetic.near_infrared else Form(3, "uint8")
        form = with_bands(drawn, band_names(data), None, data.use_bands)
        require_values(form, data)
        return _tiles(Layout(scenes, names, []), form, data)[0]
    layout = layout_of(data, card)
    for note in layout.notes:
        warn(f"{root}: {note}")
    with reading():
        form = common_form(root, layout.tiles, band_names(data), data.use_bands, data.mask_band, data.scenes)
        form = form._replace(fill=data.fill)
        require_values(form, data)
        bad, looks = unusable(root, layout.tiles, form, data)
        usable = [tile for tile in layout.tiles if tile.source not in bad]
        stated = {source: look.place for source, look in looks.items()}
        if needs_places(data, usable):
            stated |= _places(root, [tile.source for tile in usable if tile.source not in stated], form, data)
        sizes = {source: look.tile.of for source, look in looks.items()}
        found, usable = _tiles(replace(layout, tiles=usable), form, data, stated, sizes)
    splits = dict(zip([tile.source for tile in usable], found.split.tolist(), strict=True))
    _duplicates({source: look for source, look in looks.items() if source in splits}, splits)
    read = len(bad) + len(looks)
    why = {source: str(problem) for source, problem in bad.items()}
    files = dict.fromkeys(source.path for source in (*looks, *bad)) if data.scenes else ()
    with reading():
        forms = {path: form_of_scene(located(root, path, data.scenes)) for path in files}
    of_scenes = {path: form for path, form in forms.items() if form}
    inventory = Inventory(
        read, len(layout.tiles), {source: look.seen for source, look in looks.items()}, why, of_scenes
    )
    show_files(inventory)
    if not data.scenes and (large := larger(inventory, data.size)):
        say(
            f"{counted(large, 'file with coordinates is', 'files with coordinates are')} {LARGER} times as large as "
            f"data.size or more, and each is shrunk to one tile. To cut windows instead: --set data.scenes.tile="
            f"{data.size}"
        )
    kinds = {source: problem.kind for source, problem in bad.items()}
    mend = "mend or remove them, or raise the limit"
    stops = [f"packing would stop: {reason}; {mend}" for reason in excess(list(kinds.items()), [*bad, *looks], data)]
    for reason in stops:
        warn(reason)
    return replace(found, inventory=inventory, faults=stops)


def larger(found: Inventory, size: int) -> int:
    """Number of files with coordinates that may be meant as scenes. Those that surely are get a warning anyway."""
    sides = ((min(form.width, form.height), count) for form, count in found.forms if form.projection)
    return sum(count for side, count in sides if LARGER * size <= side < SCENE * size)


def show_files(found: Inventory) -> None:
    """Show the forms of files, copies and blank tiles."""
    forms = found.forms
    if forms:
        table = Table("files", "pixels", "bands", "type", "projection", "number", box=None)
        for form, count in forms[:MOST_FORMS]:
            table.add_row(*form_cells(form), f"{count:,}")
        if (more := len(forms) - MOST_FORMS) > 0:
            table.add_row(counted(more, "more form"))
        console.print(table)
    if copies := found.copies:
        count = sum(map(len, copies))
        say(f"{count:,} tiles are copies of one another, such as {copies[0][0]} and {copies[0][1]}")
    for sentence in fill_values([each.corners for each in found.tiles.values()], found.values) if found.tiles else ():
        warn(sentence)
    if blank := found.blank:
        say(
            f"{counted(len(blank), 'tile is', 'tiles are')} blank, or nearly so, as no band varies by a "
            f"hundredth of its "
            f"range: {examples([str(source) for source in blank])}"
        )


def _tiles(
    layout: Layout,
    form: Form,
    data: DataSettings,
    stated: Mapping[Source, tuple[float, float] | None] = MappingProxyType({}),
    sizes: Mapping[Source, tuple[int, int]] = MappingProxyType({}),
) -> tuple[FoundTiles, list[FoundTile]]:
    """What was found, and the tiles that are left: none lies beside another split."""
    root = Path(data.root)
    classes, labels = _labels(layout, data, sizes)
    places = places_of(layout.tiles, stated)
    ground = footprints(root, [tile.source for tile in layout.tiles], data)
    division = divide(layout.tiles, labels, layout.kind, data, places, ground)
    division, kept = apart(division, places, ground, data)
    labels, places = labels[kept], places[kept.numpy()]
    for note in division.notes:
        warn(note)
    near = nearness(places, division.split.numpy(), data.split.near_km)
    facts = {"split": division.how, "groups": division.groups, "classes": classes}
    rgb = is_rgb(form)
    found = FoundTiles(
        form,
        rgb,
        classes,
        labels,
        layout.kind,
        division.split,
        places if known(places).any() else None,
        in_words(facts, near),
    )
    return found, [tile for tile, stays in zip(layout.tiles, kept.tolist(), strict=True) if stays]


def _labels(
    layout: Layout, data: DataSettings, sizes: Mapping[Source, tuple[int, int]]
) -> tuple[list[str], Shaped[Tensor, "n *_"]]:
    """The classes, and the label of each tile as it is stored.

    Of many masks some are read, spread evenly over the paths, and each other tile counts as the one before it.
    """
    root, tiles = Path(data.root), layout.tiles
    masked = [number for number, tile in enumerate(tiles) if tile.label is not None]
    step = math.ceil(len(masked) / MOST_READ)
    if not layout.kind.dense or step <= 1:
        return read_labels(root, layout, tiles, data, sizes=sizes)
    chosen = masked[::step]
    classes, read = read_labels(root, layout, [tiles[number] for number in chosen], data, sizes=sizes)
    labels = read.new_zeros(len(tiles), *read.shape[1:])
    labels[masked] = read.repeat_interleave(step, dim=0)[: len(masked)]
    say(
        f"{len(chosen):,} of {len(masked):,} masks were read: classes, splits and shares of labels are estimated from "
        f"them, and a class that is in none of them is not shown"
    )
    return classes, labels


def _places(
    root: Path, sources: Sequence[Source], form: Form, data: DataSettings
) -> dict[Source, tuple[float, float] | None]:
    """The places of tiles that were not chosen to be read, where the division depends on them."""
    if data.scenes:
        return where_cut(root, sources, data)
    with ThreadPoolExecutor() as pool, progress(len(sources), "reading coordinates", "files") as bar:
        found = {}
        for source, place in zip(
            sources, pool.map(partial(_place, root=root, form=form, data=data), sources), strict=True
        ):
            found[source] = place
            bar.advance()
    return found


def _place(source: Source, root: Path, form: Form, data: DataSettings) -> tuple[float, float] | None:
    try:
        return on_earth(read_tile(root, source, form, data).place())
    except (Unusable, RasterioError):  # packing will say so
        return None


def _duplicates(looks: Mapping[Source, "Look"], splits: Mapping[Source, int]) -> None:
    """Tell the user about copies and near duplicates, in different splits, among the files that were read."""
    sources, found = list(looks), list(looks.values())
    split = [splits[source] for source in sources]
    if copies := twins(sources, [look.digest for look in found], split):
        warn(of_twins(copies))
    if found:
        hashes, telling = (
            np.concatenate([look.hash for look in found]),
            np.concatenate([look.telling for look in found]),
        )
        pairs = near_pairs(hashes, telling, np.array(split), digests=[look.digest for look in found]).tolist()
        if alike := [(sources[one], sources[two]) for one, two in pairs]:
            warn(of_alike(alike))


def unusable(
    root: Path, tiles: Sequence[FoundTile], form: Form, data: DataSettings
) -> tuple[dict[Source, Unusable], dict[Source, Look]]:
    """Read files, and tell the user about the unusable ones.

    Returns:
        The reasons of all without a tile, and what was seen of the others.

    Raises:
        UserError: none can be used.
    """
    step = math.ceil(len(tiles) / MOST_READ)
    chosen = [tile.source for tile in tiles[::step]]
    what = "windows" if data.scenes else "files"
    with progress(len(chosen), f"reading {what}", what) as bar:
        bad: dict[Source, Unusable] = {}
        good: list[Tile] = []
        good_looks: dict[Source, Look] = {}
        looks = read_all(root, chosen, form, data, _look)
        for source, look in zip(chosen, looks, strict=True):
            if isinstance(look, Unusable):
                bad[source] = look
            else:
                good.append(look.tile)
                good_looks[source] = look
            bar.advance()
    for note in remarks(good, data):
        warn(note)
    for note in lacking([tile.lacking for tile in good], form):
        warn(note)
    read = f"all {len(chosen):,}" if step == 1 else f"{len(chosen):,} of {len(tiles):,}"
    read = f"{read} {what} were read"
    kinds = [problem.kind for problem in bad.values()]
    unusable = sorted((source for source in bad if bad[source].kind not in LEFT_OUT), key=str)
    if unusable:
        warn(f"unusable {what}: {len(unusable)} ({in_kinds(kinds)}; {read})")
    else:
        say(f"unusable {what}: none ({read})")
    for source in unusable[:5]:
        say(f"  {source}: {bad[source]}")
    for sentence in left_out(kinds, len(chosen), data):
        warn(sentence)
    if len(bad) == len(chosen):
        empty = [f"{kinds.count(kind)} {kind}" for kind in LEFT_OUT if kind in kinds]
        causes = ", ".join(cause for cause in (in_kinds(kinds), *empty) if cause)
        raise UserError(
            f"no {what[:-1]} of {root} can be used ({causes}; {read}). Mend or remove them, or change the settings "
            f"that their reasons name"
        )
    return bad, good_looks


def _look(found: Read) -> Look | Unusable:
    tile = found.tile()
    if isinstance(tile, Unusable):
        return tile
    hashes, telling = difference_hashes(tensor_of(tile.pixels.copy())[None])
    slim = tile._replace(pixels=tile.pixels[:, :0].copy())
    content = found.content if isinstance(found, ReadTile) and isinstance(found.content, bytes) else None
    digest = found.digest()
    return Look(slim, digest, on_earth(found.place()), hashes, telling, seen(content, tile, digest))

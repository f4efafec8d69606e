"""Stage: one tile of a run -> the tiles that a backbone of the run holds most like it, as a picture and a list.

n  tiles of the store     d  width of the backbone
"""

import re
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from rich import box
from rich.table import Column, Table

from gcl_custom import console
from gcl_custom.errors import UserError
from gcl_custom.export.backbone_of_run import load_backbone
from gcl_custom.files import require_free
from gcl_custom.imagery.places.coordinates import known as placed
from gcl_custom.imagery.places.on_ground import nearest_km
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import SPLITS, TileStore
from gcl_custom.maps.representations import representations_of
from gcl_custom.pictures import grid, save_picture
from gcl_custom.runs.run import Run

NUMBER = r"\s*([-+]?\d+(?:\.\d*)?)\s*"
LON_LAT = re.compile(f"{NUMBER},{NUMBER}")
FAR_KM = 100.0
"""A place that is farther than this from every tile is none of the run's."""
ACROSS, SIDE = 6, 128
"""Tiles in a row of the picture, and the pixels that each has at least on a side."""
CHUNK = 2**16
"""Representations that are compared at once."""


def show_similar(
    run: Run, to: str, out: Path, arm: str = "gcl", seed: int | None = None, count: int = 11, overwrite: bool = False
) -> None:
    """Write a picture of a tile and of those most like it, the tile first, and print which they are.

    Tiles are alike by the cosine of their representations. Those of all tiles are computed at the first call.

    Args:
        to: a tile of the run, as its source is written, or longitude and latitude of a place near one.
        count: how many tiles to find.

    Raises:
        UserError: there is no such tile or backbone, no tile is near the place, or ``out`` exists or is no PNG.
    """
    if out.suffix != ".png":
        raise UserError(f"--out {out}: the picture is a PNG; let it end in .png")
    require_free(out, overwrite)
    known = load_backbone(run, arm, seed)
    store = known.store
    tile, remark = _find(store, to)
    nearest, similarity = most_alike(representations_of(known), tile, count)
    shown = store.unit(store.read(torch.tensor([tile, *nearest])))
    factor = -(-SIDE // store.size)
    rows = torch.split(shown.repeat_interleave(factor, 2).repeat_interleave(factor, 3), ACROSS)
    save_picture(out, grid(rows, store.quicklook(run.recipe.data.quicklook)))
    table = Table(
        "", "similarity", "split", "labels", Column("tile", overflow="fold"), box=box.SIMPLE_HEAD, pad_edge=False
    )
    for place, (number, like) in enumerate(zip([tile, *nearest], [1.0, *similarity], strict=True)):
        split = SPLITS[int(store.split[number])]
        labels = store.classes_of(number) if store.classes else ""
        table.add_row(str(place or ""), f"{like:.3f}", split, labels, str(store.sources[number]))
    console.console.print(table)
    if remark:
        console.say(remark)
    console.say(f"by {known.architecture} ({known.arm}, seed {known.seed}); the tile itself comes first: {out}")


def most_alike(representations: Float[np.ndarray, "n d"], tile: int, count: int) -> tuple[list[int], list[float]]:
    """The other tiles with the highest cosine to a tile, the highest first, and their cosines."""

    def unit(part: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
        wide = part.astype(np.float64)
        found: np.ndarray = wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-30)
        return found

    query = unit(representations[tile : tile + 1])[0]
    starts = range(0, len(representations), CHUNK)
    cosine = np.concatenate([unit(representations[start : start + CHUNK]) @ query for start in starts])
    cosine[tile] = -np.inf
    order: Int[np.ndarray, " k"] = np.argsort(-cosine, kind="stable")[: min(count, len(cosine) - 1)]
    return order.tolist(), cosine[order].tolist()


def _find(store: TileStore, to: str) -> tuple[int, str]:
    """The tile that is meant, and what is to be said of it."""
    texts = store.sources.texts
    if to in texts:
        return texts.index(to), ""
    if windows := [text for text in texts if text.startswith(f"{to}#") and Source.parse(text).path == to]:
        raise UserError(f"--to {to}: it is a scene of {len(windows):,} tiles. Give one of them, such as {windows[0]}")
    if found := LON_LAT.fullmatch(to):
        return _near(store, float(found[1]), float(found[2]), to)
    close = get_close_matches(to, texts, 3, 0.4) or texts[:3]
    raise UserError(
        f"--to {to}: the run has no such tile. There are: {', '.join(close)} ... Or give LON,LAT in degrees"
    )


def _near(store: TileStore, longitude: float, latitude: float, to: str) -> tuple[int, str]:
    """The tile whose centre lies nearest to a place."""
    if abs(longitude) > 180 or abs(latitude) > 90:
        raise UserError(f"--to {to}: longitude comes first (-180 to 180 degrees), then latitude (-90 to 90)")
    if store.places is None:
        raise UserError(
            f"--to {to}: it is not known where the run's tiles lie, since neither their files nor their names say so. "
            f"Give a tile, such as {store.sources[0]}"
        )
    there = np.flatnonzero(placed(store.places))
    distances = nearest_km(store.places[there], np.array([[longitude, latitude]]))
    tile, distance = int(there[distances.argmin()]), float(distances.min())
    if distance > FAR_KM:
        (west, south), (east, north) = store.places[there].min(axis=0), store.places[there].max(axis=0)
        raise UserError(
            f"--to {to}: the nearest tile, {store.sources[tile]}, is {distance:,.0f} km away. The tiles lie between "
            f"{west:.4g} and {east:.4g} degrees of longitude and {south:.4g} and {north:.4g} of latitude"
        )
    return tile, f"{store.sources[tile]} is the tile nearest to {to}: its centre is {distance:,.3g} km away"

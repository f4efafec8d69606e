"""The report's tiles with labels and neighbours: which tiles are confused, and what a backbone holds alike."""

from collections.abc import Callable
from functools import partial
from html import escape

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from gcl_custom.evaluation import floors, neighbours
from gcl_custom.evaluation.figures import TITLES
from gcl_custom.evaluation.inference import labelled
from gcl_custom.evaluation.scoring import MASKS_SHOWN, SHOWN_MASKS
from gcl_custom.files import read_json
from gcl_custom.imagery.shards.streamed_shards import has_pixels
from gcl_custom.imagery.tile_store import INDEX, TileStore, spread
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.measures.overlap import IGNORED
from gcl_custom.pictures import Quicklook, class_colours, grid, png
from gcl_custom.reporting import html
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

PAIRS, TILES = 4, 6
"""Confused pairs of classes that are shown, and the most tiles of each."""


def examples(run: Run) -> str:
    """Both kinds of tiles, as far as there are any."""
    tiles = plan.tiles(run)
    if not tiles.done or not ((tiles.path / INDEX).is_file() and has_pixels(tiles.path)):
        return ""
    store = TileStore(tiles.path)
    quicklook = store.quicklook(run.recipe.data.quicklook)
    strip = partial(_strip, store, quicklook)
    return _confused(run, store, strip) + _masks(run, store, quicklook) + _neighbours(run, store, strip)


def confused_tiles(predicted: np.ndarray, truth: np.ndarray) -> list[tuple[int, int, list[int]]]:
    """The commonest confusions of a linear probe.

    Args:
        predicted: the class that each seed's probe said of each test tile (seeds, tiles).
        truth: the tiles' classes.

    Returns:
        True class, predicted class, and the places of the tiles; those that most seeds confuse so come first.
    """
    pairs = {(int(t), int(p)) for row in predicted for t, p in zip(truth, row, strict=True) if t != p}
    votes = {pair: ((predicted == pair[1]) & (truth == pair[0])).sum(0) for pair in pairs}
    common = sorted(pairs, key=lambda pair: (-int(votes[pair].sum()), pair))
    return [(*pair, [int(i) for i in np.argsort(-votes[pair], kind="stable") if votes[pair][i]]) for pair in common]


def _confused(run: Run, store: TileStore, strip: Callable[..., str]) -> str:
    probes = [stage for seed in run.recipe.compare.seeds if (stage := plan.probe(run, "gcl", seed)).done]
    files = [path for stage in probes if (path := stage.path / "probes.json").is_file()]
    kept = [read_json(path)["linear"] for path in files]
    if not kept or store.kind is not SINGLE_LABEL:
        return ""
    test = labelled(store, "test")
    found = confused_tiles(np.array(kept), store.labels[test].numpy())
    if not found:
        return "<h3>Worst confusions</h3><p>GCL's linear probe confuses no test tile.</p>"
    figures = ""
    for true, said, places in found[:PAIRS]:
        what = f"{store.classes[true]}, taken for {store.classes[said]}"
        figures += strip(test[places[:TILES]].tolist(), f"{what}: {_tiles(len(places))}")
    return (
        "<h3>Worst confusions</h3><p>Test tiles that GCL's linear probe takes for another class, the commonest "
        f'confusions first.</p><div class="strips">{figures}</div>'
    )


def _masks(run: Run, store: TileStore, quicklook: Quicklook) -> str:
    """Test tiles, their masks, and below them what the linear probes of GCL and of the floors say."""
    if not store.kind.dense:
        return ""
    probes = {"gcl": plan.probe(run, "gcl", run.recipe.compare.seeds[0])}
    probes |= {floor: plan.floor(run, floor, floors.SETTINGS[floor]) for floor in store.kind.floors}
    said = {arm: np.load(path) for arm, stage in probes.items() if (path := stage.path / MASKS_SHOWN).is_file()}
    if "gcl" not in said or not all(probes[arm].done for arm in said):
        return ""
    tiles = spread(labelled(store, "test"), SHOWN_MASKS)
    rows = [quicklook.of(store.unit(store.read(tiles))), _coloured(store.targets(tiles))]
    rows += [_coloured(torch.from_numpy(masks)) for masks in said.values()]
    names = ["the tiles", "their masks", *(f"the masks of {TITLES[arm]}" for arm in said)]
    what = f"From above: {', '.join(names)}, by the linear probe with all labels."
    keys = "&emsp;".join(
        f'<span style="color:#{"".join(f"{round(255 * part):02x}" for part in colour)}">■</span> {escape(name)}'
        for name, colour in zip(store.classes, class_colours(len(store.classes)).tolist(), strict=True)
    )
    return (
        f"<h3>Masks of test tiles</h3><p>{keys}&emsp;white: no class</p>"
        f'<figure class="card">{html.picture(png(grid(rows)), what)}<figcaption>{escape(what)}</figcaption></figure>'
    )


def _coloured(masks: UInt8[Tensor, "n h w"]) -> Float[Tensor, "n 3 h w"]:
    """Masks in the colours of their classes, white where there is none."""
    table = torch.cat([class_colours(IGNORED), torch.ones(1, 3)])
    return rearrange(table[masks.long()], "n h w c -> n c h w")


def _neighbours(run: Run, store: TileStore, strip: Callable[..., str]) -> str:
    stage = neighbours.stage_of(run)
    if not stage.done:
        return ""
    figures = ""
    for found in read_json(stage.path / neighbours.KEPT):
        like = ", ".join(f"{value:.2f}" for value in found["similarity"])
        what = f"cosine similarity {like}"
        if store.classes:
            near = ", ".join(store.classes_of(tile) for tile in found["nearest"])
            what = f"{store.classes_of(found['tile'])}; nearest: {near} ({what})"
        figures += strip([found["tile"], *found["nearest"]], what, first=True)
    return (
        "<h3>Nearest neighbours</h3><p>At the left a tile that pretraining has not seen, beside it the training tiles "
        "that GCL's backbone holds most alike. If they share what matters to you, so will a search or a classifier. Of "
        f'many training tiles {neighbours.BANK:,} were searched.</p><div class="strips">{figures}</div>'
    )


def _tiles(count: int) -> str:
    return f"{count:,} tile{'s' if count > 1 else ''}"


def _strip(store: TileStore, quicklook: Quicklook, tiles: list[int], what: str, first: bool = False) -> str:
    """Tiles side by side, with what they are below; the first may stand apart."""
    unit = store.unit(store.read(torch.tensor(tiles)))
    parts = {"the tile": unit[:1], "its neighbours": unit[1:]} if first else {what: unit}
    pictures = "".join(
        f'<span style="flex:{len(part)}">{html.picture(png(grid([part], quicklook)), name)}</span>'
        for name, part in parts.items()
        if len(part)
    )
    room = f'<span style="flex:{TILES - len(tiles)}"></span>' if len(tiles) < TILES else ""
    return f'<figure><div class="tiles">{pictures}{room}</div><figcaption>{escape(what)}</figcaption></figure>'

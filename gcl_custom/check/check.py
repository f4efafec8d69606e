"""Stage without output: what a recipe would do here, before any training. Nothing is written unless it is asked for.

It finds the tiles as packing would, reads files to find unusable ones, looks for the weights from elsewhere, and
measures a few steps of each network that can be built.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from gcl_custom.check.found_tiles import FoundTiles
from gcl_custom.check.survey import survey
from gcl_custom.console import console, duration, in_bytes, say, warn
from gcl_custom.counted import counted, either
from gcl_custom.errors import UserError
from gcl_custom.files import write_text
from gcl_custom.imagery.tile_store import SPLITS
from gcl_custom.imagery.values.summary import of_a_file
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.reporting import split_map
from gcl_custom.runs import arms
from gcl_custom.runs.run import Run
from gcl_custom.training.boards.kinds import require_loggers
from gcl_custom.training.devices import described, pick_device, require_devices
from gcl_custom.weights import on_disk
from gcl_custom.weights.needed import licences, needed

if TYPE_CHECKING:
    from gcl_custom.check.estimates import StageCost

MOST_CLASSES = 40
"""Most classes with a row of their own in the table of tiles."""
NAMED = 5
"""Most classes that a warning names."""
LARGE = 100 * 10**9
"""Bytes of views above which the warning names what takes less room."""


def check(run: Run, map_to: Path | None = None, page_to: Path | None = None) -> None:
    """Show tiles, unusable files, shapes, steps, time, memory and disk of every stage.

    Args:
        map_to: file for the map of the splits.
        page_to: file for a page with all of this, and more on the imagery.

    Raises:
        UserError: anything that would end the run before its first training step, or for want of room on the disk.
    """
    recipe = run.recipe
    if page_to is not None and (page_to.suffix != ".html" or page_to.is_dir() or not page_to.parent.is_dir()):
        raise UserError(f"--page: {page_to} is no .html file, or its folder is missing. Give a file such as check.html")
    require_devices(recipe.hardware)
    require_loggers(recipe.hardware)
    if map_to is not None and not (map_to.parent.is_dir() and not map_to.is_dir()):
        raise UserError(f"--map: {map_to} is a folder, or its folder is missing. Give a file such as splits.png")
    if recipe.data.store:
        raise UserError("check looks at the files below data.root. Where they are, leave out data.store")
    tiles = survey(recipe.data)
    show_tiles(tiles, recipe)
    if map_to is not None:
        _draw(tiles, map_to)
    sizes, there = show_weights(recipe)
    # Here, since networks take seconds to import, and what is wrong with the tiles needs none.
    from gcl_custom.check.estimates import estimate
    from gcl_custom.check.imagery_page import imagery_page
    from gcl_custom.check.step_costs import measure
    from gcl_custom.pretraining.suitable import require_sizes

    require_sizes(recipe)
    say("measuring a few steps of each network ...")
    tokens = recipe.generator.has_tokens and there and arms.needs_generator(recipe)
    costs = measure(recipe, tiles.form.bands, tiles.rgb, tokens, tiles.kind)
    rows = list(estimate(recipe, tiles, costs, sizes))
    show_costs(rows, run)
    faults = [*tiles.faults, *_room(rows, run)]
    if page_to is not None:
        write_text(page_to, imagery_page(recipe, tiles, rows, faults))
        say(f"page: {page_to.resolve()}")
    if faults:
        raise UserError(f"{recipe.name} would not run. {'. '.join(faults)}")


def _room(rows: "Sequence[StageCost]", run: Run) -> list[str]:
    """What is wrong with the room on the disk; nothing if there is enough."""
    disk = sum(row.disk for row in rows)
    place = next(folder for folder in (run.path, *run.path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    told = f"{place} has {in_bytes(free)} free, and {in_bytes(disk)} are needed: make room or give another place with"
    return [f"{told} --runs"] if disk > free else []


def _draw(tiles: FoundTiles, path: Path) -> None:
    if tiles.places is None:
        raise UserError(
            "--map: no tile has a known place. Files may state coordinates, or their names hold longitude and "
            "latitude, as -73.12,45.40.jpg does"
        )
    split_map.save(tiles.places, tiles.split.numpy(), path)
    say(f"map of the splits: {path}")


# ---------------------------------------------------------------- what a person reads


def show_tiles(tiles: FoundTiles, recipe: Recipe) -> None:
    """Show tiles by class and split, shapes, and the number of labels of each fraction."""
    table = Table("tiles", *SPLITS, box=None)
    for label, name in [*enumerate(tiles.classes[:MOST_CLASSES]), (-1, "no label")]:
        row = [tiles.count(split, label) for split in SPLITS]
        if any(row):
            table.add_row(name, *(f"{count:,}" for count in row))
    if (more := len(tiles.classes) - MOST_CLASSES) > 0:
        table.add_row(counted(more, "more class", "more classes"))
    table.add_row("all", *(f"{tiles.count(split):,}" for split in SPLITS), style="bold")
    console.print(table)
    if tiles.told:
        say(tiles.told)
    in_tokens = ""
    if recipe.generator.has_tokens and arms.needs_generator(recipe):
        tokenizer = recipe.tokens.tokenizer
        grid = recipe.data.size // tokenizer.pixels_per_token
        in_tokens = f"; {grid} x {grid} tokens of {tokenizer.codes} codes"
    say(
        f"a tile: {counted(tiles.form.bands, 'band')} of {tiles.form.dtype}{of_a_file(tiles.form)}, "
        f"{recipe.data.size} x "
        f"{recipe.data.size} px{in_tokens}"
    )
    if not tiles.classes:
        warn("no labels: everything up to pretraining works, but compare-supervised needs some")
        return
    for remark in tiles.kind.remarks(tiles.labels, tiles.classes):
        say(remark)
    for split in SPLITS[1:]:
        lacking = [name for label, name in enumerate(tiles.classes) if not tiles.count(split, label)]
        if lacking:
            names = ", ".join([*lacking[:NAMED], *(["..."] if len(lacking) > NAMED else [])])
            warn(f"no {split} tile of {counted(len(lacking), 'class', 'classes')}: {names}")
    for fraction in recipe.compare.fractions:
        total, wanted = tiles.share(fraction), fraction * len(tiles.labelled)
        note = ", since each class keeps one" if total > 1.5 * wanted else ""
        say(f"label fraction {fraction:g}: {total:,} of {counted(len(tiles.labelled), 'labelled training tile')}{note}")


def show_weights(recipe: Recipe) -> tuple[dict[str, int], bool]:
    """Show weights from elsewhere and their licences.

    Returns:
        Their sizes by key, as far as they are known, and whether all weights of the generator are there.
    """
    found = [(need, on_disk.look(need)) for need in needed(recipe)]
    sizes: dict[str, int] = {}
    for need, state in found:
        known = state.size or (need.public.size if need.public and need.exact else 0) or 0
        sizes |= {key: known if number == 0 else 0 for number, key in enumerate(need.keys) if known}
    if found:
        on_disk.show(found)
    for line in licences(recipe):
        warn(line)
    lacking = sum(not state.there for _, state in found)
    if lacking:
        warn(
            f"{lacking} of {len(found)} weights {either(lacking, 'is', 'are')} missing or damaged, so what "
            f"that takes is not measured. How to get one says: gcl-custom weights RECIPE"
        )
    of_generator = [state for need, state in found if any(key.startswith("generator.") for key in need.keys)]
    return sizes, all(state.there for state in of_generator)


def show_costs(rows: "Sequence[StageCost]", run: Run) -> None:
    """Show what each stage takes, where the figures come from, and whether there is room."""
    from gcl_custom.check.estimates import MEASURED

    unmeasured = any(row.source != MEASURED for row in rows)
    table = Table("stage", "what", "time", "memory", "disk", *(["time is"] if unmeasured else []), box=None)
    for row in rows:
        time = duration(row.seconds) if row.seconds else ""
        memory = in_bytes(row.memory) if row.memory else ""
        cells = [row.name, row.what, time, memory, in_bytes(row.disk)]
        table.add_row(*cells, *([row.source if row.seconds != 0 else ""] if unmeasured else []))
    disk, seconds = sum(row.disk for row in rows), sum(row.seconds or 0 for row in rows)
    least = "at least " if any(row.seconds is None for row in rows) else ""
    memory = in_bytes(max(row.memory or 0 for row in rows))
    table.add_row("all", "", f"{least}{duration(seconds)}", memory, in_bytes(disk), style="bold")
    console.print(table)
    device = described(pick_device(run.recipe.hardware))
    say(f"time: measured steps on {device}, as busy as it is now, without evaluations; memory: of the networks")
    if (devices := run.recipe.hardware.processes) > 1:
        say(f"time is that of one device; {devices} will share the training and the views")
    if unmeasured:
        say("published times are of another machine; memory is of the weights alone where nothing was measured")
    views = next((row.disk for row in rows if row.name == "views"), 0)
    if views > LARGE:
        warn(
            f"the generative views are kept as raw pixels and come to {in_bytes(views)}. Fewer of them "
            f"(views.per_tile) or smaller tiles (data.size) take less room"
        )

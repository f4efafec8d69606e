"""Stage without output: what a recipe would do here, before any training. Nothing is written.

It finds the tiles as packing would, reads files to find unusable ones, and measures a few steps of each network.
"""

import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from rich.table import Table
from torch import Tensor

from gcl_custom import plan, scenes
from gcl_custom.console import console, duration, progress, say, warn
from gcl_custom.costs import Cost, Costs, measure
from gcl_custom.imagery import SPLITS, Form, SplitName, Unusable, has_label, reading, tile_from
from gcl_custom.layout import File, Layout, common_form, find, is_rgb, labels_of
from gcl_custom.recipe import Card, Data, Recipe
from gcl_custom.recipe_file import load_card
from gcl_custom.runs import Run
from gcl_custom.splits import divide, label_counts, subset_of_sets
from gcl_custom.symmetry import WAYS

MOST_READ = 4000
"""Files read whole; of more files, so many are read, spread evenly over the paths."""


@dataclass(frozen=True)
class Tiles:
    """The tiles that packing would find."""

    form: Form
    rgb: bool
    classes: list[str]
    labels: Int[Tensor, " n"] | Bool[Tensor, "n classes"]
    """As in a tile store."""
    split: Int[Tensor, " n"]

    def count(self, split: SplitName, label: int | None = None) -> int:
        chosen = self.split == SPLITS.index(split)
        if label is not None and self.labels.ndim == 1:
            chosen = chosen & (self.labels == label)
        elif label is not None:
            chosen = chosen & (self.labels[:, label] if label >= 0 else ~self.has_label)
        return int(chosen.sum())

    @property
    def has_label(self) -> Bool[Tensor, " n"]:
        return has_label(self.labels)

    @property
    def labelled(self) -> Int[Tensor, " m"] | Bool[Tensor, "m classes"]:
        """Labels of the train tiles that have one."""
        return self.labels[(self.split == 0) & self.has_label]

    def share(self, fraction: float) -> int:
        """Number of labelled train tiles that a label fraction leaves."""
        if self.labels.ndim == 2:
            return len(subset_of_sets(self.labelled, fraction, seed=0))
        return sum(label_counts(self.labelled, fraction).values())


@dataclass(frozen=True)
class Row:
    """A stage, in the table of what it takes."""

    name: str
    what: str
    seconds: float
    memory: int
    disk: int


def run(run: Run) -> None:
    """Show tiles, unusable files, shapes, steps, time, memory and disk of every stage.

    Raises:
        UserError: whatever would end the run before its first training step.
    """
    recipe = run.recipe
    tiles = survey(recipe.data)
    show_tiles(tiles, recipe)
    say("measuring a few steps of each network ...")
    costs = measure(recipe, tiles.form.bands, tiles.rgb)
    rows = list(estimate(recipe, tiles, costs))
    show_costs(rows, run)


def survey(data: Data) -> Tiles:
    """Find the tiles and read files, as packing would; synthetic scenes that are not drawn yet are counted only.

    Raises:
        UserError: as packing would.
    """
    root = Path(data.root)
    card = load_card(data.card) if data.card else None
    if data.synthetic and not (root.is_dir() and any(root.iterdir())):
        say(f"data.root: {data.synthetic.tiles} synthetic scenes would be drawn into {root}")
        names = list(scenes.CLASSES)
        files = [File(f"{number:05d}.tif", None, names[number % len(names)]) for number in range(data.synthetic.tiles)]
        form = Form(4, "uint16") if data.synthetic.near_infrared else Form(3, "uint8")
        return _tiles(Layout(files, names, []), form, card, data)
    layout = find(root, card, data.labels, data.multi_label)
    for note in layout.notes:
        warn(f"{root}: {note}")
    with reading():
        form = common_form(root, layout.files, card)
        bad = unusable(root, layout.files, form, data)
    usable = [file for file in layout.files if file.path not in bad]
    return _tiles(replace(layout, files=usable), form, card, data)


def _tiles(layout: Layout, form: Form, card: Card | None, data: Data) -> Tiles:
    classes, labels = labels_of(layout.files, layout.classes, layout.multi_label)
    return Tiles(form, is_rgb(card, form), classes, labels, divide(layout.files, labels, data))


def unusable(root: Path, files: Sequence[File], form: Form, data: Data) -> dict[str, Unusable]:
    """Path -> reason of the unusable ones among the files that are read; shown, too."""
    step = math.ceil(len(files) / MOST_READ)
    chosen = [file.path for file in files[::step]]
    with ThreadPoolExecutor() as pool, progress(len(chosen), "reading files", "files") as bar:
        bad: dict[str, Unusable] = {}
        for path, problem in pool.map(partial(_problem, root=root, form=form, data=data), chosen):
            if problem:
                bad[path] = problem
            bar.advance()
    read = f"all {len(chosen):,} files were read" if step == 1 else f"{len(chosen):,} of {len(files):,} files were read"
    kinds = ", ".join(
        f"{count} {kind}" for kind, count in Counter(problem.kind for problem in bad.values()).most_common()
    )
    if not bad:
        say(f"unusable files: none ({read})")
        return bad
    warn(f"unusable files: {len(bad)} ({kinds}; {read})")
    for path in sorted(bad)[:5]:
        say(f"  {path}: {bad[path]}")
    if len(bad) > data.bad_files * len(chosen):
        share = len(bad) / len(chosen)
        warn(f"packing would stop: {share:.0%} are unusable, and data.bad_files allows {data.bad_files:.0%}")
    return bad


def _problem(path: str, root: Path, form: Form, data: Data) -> tuple[str, Unusable | None]:
    try:
        tile_from((root / path).read_bytes(), form, data.size, data.upscale, data.nodata)
    except Unusable as problem:
        return path, problem
    except OSError as error:
        return path, Unusable("cannot be opened", str(error.strerror))
    return path, None


def estimate(recipe: Recipe, tiles: Tiles, costs: Costs) -> Iterator[Row]:
    """Steps, time, memory and disk of each stage."""
    data, settings = recipe.data, recipe.pretrain
    train, valid = tiles.count("train"), tiles.count("valid")
    tile = tiles.form.bands * data.size**2 * np.dtype(tiles.form.dtype).itemsize
    yield Row("tiles", f"{len(tiles.split):,} tiles", 0.0, 0, len(tiles.split) * tile)

    tokenizer, maskgit = recipe.tokens.tokenizer, recipe.tokens.maskgit
    steps = tokenizer.epochs * _per_epoch(train, tokenizer.batch)
    joined = round(steps * (1 - tokenizer.adversary_start))
    seconds = (steps - joined) * costs.tokenizer.seconds + joined * costs.adversary.seconds
    memory = max(costs.tokenizer.memory, costs.adversary.memory if joined else 0)
    yield Row("tokenizer", f"{steps:,} steps of {tokenizer.batch}", seconds, memory, _kept(costs.adversary))

    steps = maskgit.epochs * _per_epoch(train, maskgit.batch)
    ways = WAYS[data.symmetry]
    tokens = (train + valid) * ways
    seconds = steps * costs.maskgit.seconds + tokens / recipe.views.batch * costs.tokenise.seconds
    disk = _kept(costs.maskgit) + tokens * (data.size // tokenizer.pixels_per_token) ** 2 * 2
    yield Row("maskgit", f"{steps:,} steps of {maskgit.batch}", seconds, costs.maskgit.memory, disk)

    views = train * recipe.views.per_tile
    seconds = views / recipe.views.batch * costs.views.seconds
    yield Row("views", f"{views:,} views", seconds, costs.views.memory, views * tile)
    if plan.needs_reconstructions(recipe):
        seconds = 2 * train / recipe.views.batch * costs.tokenise.seconds  # decoding costs about what encoding does
        yield Row("reconstructions", f"{train:,} tiles", seconds, costs.tokenise.memory, train * tile)

    steps = settings.epochs * _per_epoch(train, settings.tiles_per_step)
    seconds = steps * costs.pretrain.seconds
    number = len(plan.pretrainings(recipe))
    yield Row(
        "pretrain",
        f"{steps:,} steps of {settings.tiles_per_step}",
        seconds,
        costs.pretrain.memory,
        _kept(costs.pretrain),
    )
    if tiles.classes:
        if number > 1:
            what = f"{number - 1} more of them"
            yield Row(
                "other arms and seeds",
                what,
                (number - 1) * seconds,
                costs.pretrain.memory,
                (number - 1) * _kept(costs.pretrain),
            )
        yield _comparison(recipe, tiles, costs, number)


def _comparison(recipe: Recipe, tiles: Tiles, costs: Costs, pretrainings: int) -> Row:
    """Probes, fine-tuning and the supervised baseline.

    A learning rate is chosen with the first seed, so there is one training for each seed and one for each further rate.
    """
    compare = recipe.compare
    repeats = len(compare.seeds) + len(compare.learning_rates) - 1
    labelled = len(tiles.labelled)
    arms = len(compare.arms)
    steps = 0.0
    for fraction in compare.fractions:
        if fraction < 1:
            batch = min(compare.batch, tiles.share(fraction))
            steps += arms * repeats * compare.finetune_steps * batch / compare.batch
    supervised = "supervised" in compare.arms
    on_all = (arms - supervised) * (1.0 in compare.fractions) + supervised
    epochs = compare.supervised_epochs or recipe.pretrain.epochs
    steps += on_all * repeats * epochs * _per_epoch(labelled, compare.batch)
    embedded = (pretrainings + len(compare.seeds)) * int(tiles.has_label.sum())
    seconds = steps * costs.supervised.seconds + embedded / compare.batch * costs.embed.seconds
    what = f"{round(steps):,} steps of {compare.batch}, {embedded:,} tiles embedded"
    return Row("compare", what, seconds, costs.supervised.memory, 3 * 4 * costs.supervised.parameters)


def _per_epoch(tiles: int, batch: int) -> int:
    return max(1, tiles // batch)


def _kept(cost: Cost) -> int:
    """Bytes of the last checkpoint (weights and two moments) and of the final weights."""
    return 4 * 4 * cost.parameters


# ---------------------------------------------------------------- what a person reads


def show_tiles(tiles: Tiles, recipe: Recipe) -> None:
    """Tiles by class and split, shapes, and what label fractions come to."""
    table = Table("tiles", *SPLITS, box=None)
    for label, name in [*enumerate(tiles.classes), (-1, "no label")]:
        row = [tiles.count(split, label) for split in SPLITS]
        if any(row):
            table.add_row(name, *(f"{count:,}" for count in row))
    table.add_row("all", *(f"{tiles.count(split):,}" for split in SPLITS), style="bold")
    console.print(table)
    tokenizer = recipe.tokens.tokenizer
    grid = recipe.data.size // tokenizer.pixels_per_token
    say(
        f"a tile: {tiles.form.bands} bands of {tiles.form.dtype}, {recipe.data.size} x {recipe.data.size} px; "
        f"{grid} x {grid} tokens of {tokenizer.codes} codes"
    )
    if not tiles.classes:
        warn("no labels: everything up to pretraining works, but compare-supervised needs some")
        return
    for fraction in recipe.compare.fractions:
        total, wanted = tiles.share(fraction), fraction * len(tiles.labelled)
        note = ", since each class keeps one" if total > 1.5 * wanted else ""
        say(f"label fraction {fraction:g}: {total} of {len(tiles.labelled):,} labelled training tiles{note}")


def show_costs(rows: Sequence[Row], run: Run) -> None:
    """The stages and what they take, and whether there is room."""
    table = Table("stage", "what", "time", "memory", "disk", box=None)
    for row in rows:
        memory = _size(row.memory) if row.memory else ""
        table.add_row(row.name, row.what, duration(row.seconds) if row.seconds else "", memory, _size(row.disk))
    disk, seconds = sum(row.disk for row in rows), sum(row.seconds for row in rows)
    table.add_row("all", "", duration(seconds), _size(max(row.memory for row in rows)), _size(disk), style="bold")
    console.print(table)
    device = "GPU" if torch.cuda.is_available() else f"CPU with {torch.get_num_threads()} threads"
    say(f"time: measured steps on this {device} as busy as it is now, without evaluations; memory: of the networks")
    place = next(folder for folder in (run.path, *run.path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if disk > free:
        warn(
            f"{place} has {_size(free)} free, and {_size(disk)} are needed: make room or give another place with --runs"
        )


def _size(count: int) -> str:
    """Bytes, for a reader."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.3g} {unit}" if size < 1000 else f"{size:,.0f} {unit}"

"""Stage without a run: a folder or a collection of images -> a recipe that fits it, each choice with its reason, and a
card of what was found.

The recipe begins with the shipped one that ``run FOLDER`` would take. Batches are then fitted to this machine's memory
and epochs to a budget of minutes, by measured steps.
"""

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gcl_custom.check.band_choices import Chosen, band_choices
from gcl_custom.check.estimates import estimate
from gcl_custom.check.folder_recipe import COLOUR, folder_recipe, shorter_sides
from gcl_custom.check.found_card import YOURS, card_beside, found_card
from gcl_custom.check.found_tiles import FoundTiles
from gcl_custom.check.labels_found import FoundLabels, labels_below
from gcl_custom.check.recipe_text import recipe_text
from gcl_custom.check.step_costs import Costs, measure
from gcl_custom.check.survey import survey
from gcl_custom.console import duration, in_bytes, say, warn
from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.files import require_free, write_text
from gcl_custom.imagery.decoding import Form, Unusable, reading
from gcl_custom.imagery.folders import Layout, common_form, layout_of
from gcl_custom.imagery.read_tile import header_of
from gcl_custom.measures.label_kinds import MASKS, MULTI_LABEL
from gcl_custom.recipe.file import band_names, card_of, check_values, load_recipe, parse_yaml, read_text, shipped
from gcl_custom.recipe.imagery import RASTERS
from gcl_custom.recipe.names import run_name
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import arms

EPOCHS = ("pretrain.epochs", "pretrain.probe_every", "generator.tokenizer.epochs", "generator.maskgit.epochs")
"""Keys that a budget of minutes scales."""
BATCHES = ("pretrain.batch", "compare.batch", "generator.tokenizer.batch", "generator.maskgit.batch")
"""Keys that memory and the number of tiles bound."""
SMALLEST_BATCH = 8
MOST_TIMES = 4
"""How many times the shipped recipe's epochs a budget may buy: more of them mostly repeat."""
STEPS = 200
"""Multiples of the epochs that are tried for a budget, down to one epoch each."""
OF_MEMORY = 0.5
"""Share of the free memory that a step may take: its estimate leaves out what libraries keep."""
OF_SCENES, OF_FEW, FEW = 4, 2, 100
"""How many times as large as a tile half of the rasters are at least that are cut; and how many times if there are few
of them without labels, which as tiles would hardly be enough."""
SHOWN = 4
"""Classes that a comment names."""
Values = dict[str, Any]


class Fitted(NamedTuple):
    """The recipe so far, and why."""

    kind: str
    chosen: Values
    """key.path -> value, where it is not that of the shipped recipe."""
    reasons: dict[str, str]

    @property
    def recipe(self) -> Recipe:
        return load_recipe(shipped("recipes")[self.kind], _typed(self.chosen))

    def but(self, values: Mapping[str, Any], reasons: Mapping[str, str] | None = None) -> "Fitted":
        return Fitted(self.kind, {**self.chosen, **values}, {**self.reasons, **(reasons or {})})


def init_recipe(folder: Path, out: Path | None, minutes: float | None, overwrite: bool) -> None:
    """Write a recipe for the images of a folder or a collection, and a card beside it; say what to type next.

    A card that is there already stays as it is, and the images are read by it.

    Args:
        out: file to write; without it, the images' name with .yaml here.
        minutes: that all stages together should take; without it, the shipped recipe's steps.

    Raises:
        UserError: there is no usable image, the recipe is there already, or the card that is there has mistakes.
    """
    path = out or Path(f"{run_name(folder)}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {path}: a recipe is a .yaml file; let it end so")
    require_free(path, overwrite)
    card = card_beside(path)
    cut: Values = {"data.card": str(card)} if card.exists() else {}
    kind, first = folder_recipe(folder, _typed(cut))
    if _are_scenes(first):
        cut["data.scenes"] = {"tile": first.data.size, "overlap": 0}
        kind, first = folder_recipe(folder, _typed(cut))
    labelled = _has_labels(_layout_of(first))
    labels = labels_below(folder, first.data.scenes is not None) if folder.is_dir() and not labelled else None
    if labels and labels.given:
        cut["data.labels"] = labels.given
        kind, first = folder_recipe(folder, _typed(cut))
    tiles, layout = survey(first.data), _layout_of(first)
    bands = _bands(first, tiles, layout)
    if bands.values:
        kind, first = folder_recipe(folder, _typed({**cut, **bands.values}))
        tiles = replace(tiles, form=_form(first, layout))
    values = parse_yaml(read_text(shipped("recipes")[kind]), kind)
    plain = first.model_dump(mode="json")
    chosen = {key: _value(plain, key) for key in ("data.root", "data.size", *EPOCHS) if _value(values, key) is not None}
    reasons = {**_of_data(first, tiles, layout, labels), **bands.reasons, **_of_start(kind, tiles)}
    fitted = Fitted(kind, {**chosen, **cut, **bands.values}, reasons)
    say("measuring a few steps of each network ...")
    fitted, costs = _for_memory(fitted, tiles)
    fitted, seconds = _for_minutes(fitted, tiles, costs, minutes)
    fitted = fitted.but({"data.card": str(card)}, {"data.card": _of_card(card)})
    for key, value in fitted.chosen.items():
        _set(values, key, value)
    typed = shlex.quote(str(path))
    head = (
        f"Written by gcl-custom init for {folder}, from the shipped recipe {kind}: about {duration(seconds)} on this "
        f"machine.\nLook at the reasons, change what you know better, and try it:\n"
        f"  gcl-custom check {typed}\n  gcl-custom run {typed}\nEvery key: gcl-custom recipes keys"
    )
    text = recipe_text(head, values, fitted.reasons)
    recipe = check_values(Recipe, {"name": "r", **parse_yaml(text, str(path))}, str(path))
    assert recipe == fitted.recipe.model_copy(update={"name": "r"}), "the text holds what was chosen"
    if not card.exists():
        write_text(card, found_card(recipe, tiles, layout))
        say(f"wrote {card}: what was found. State source and licence there, which only you know")
    write_text(path, text)
    epochs = counted(recipe.pretrain.epochs, "epoch")
    say(f"wrote {path}: {epochs} of tiles of {recipe.data.size} px, about {duration(seconds)}")
    if tiles.faults:
        raise UserError(f"{path} would not run. {'. '.join(tiles.faults)}. Mend that, then: gcl-custom check {typed}")
    say(f"next:   gcl-custom check {typed}\n        gcl-custom run {typed}")


# ---------------------------------------------------------------- the reasons


def _of_data(recipe: Recipe, tiles: FoundTiles, layout: Layout, labels: FoundLabels | None) -> dict[str, str]:
    """Why the section data is as it is."""
    data, form = recipe.data, tiles.form
    with reading():
        sides = sorted(shorter_sides(Path(data.root), layout.tiles))
    small, large = (f"{side:,}" for side in (sides[0], sides[-1])) if sides else ("?", "?")
    have = f"the shorter sides of the files are {small} to {large} px" if small != large else f"files have {small} px"
    more = "surroundings" if data.scenes else "detail"
    names = f". Name them, if you like: bands: [{', '.join(_examples(form.bands))}]"
    if form.names:
        names = f", called {', '.join(form.names)}"
    elif tiles.rgb:
        names = ""
    scaling = "; values become 0 to 1 by dividing by 255" if form.dtype == "uint8" else ""
    bands = f"{form.bands} {'band' if form.bands == 1 else 'bands'} of {form.dtype}{names}{scaling}"
    return {
        "data.root": "\n".join([_layout(tiles, layout, labels), *layout.notes, bands]),
        "data.size": f"pixels a side; {have}. Twice the size shows more {more} and takes four times as long",
        "data.scenes": "the files are rasters larger than a tile, so they are cut into windows. Without this line each "
        "is shrunk to one tile",
        "data.labels": labels.reason if labels else "",
        "data.symmetry": "seen from above no direction is special; flip for pictures with a top, none for letters",
    }


def _bands(recipe: Recipe, tiles: FoundTiles, layout: Layout) -> Chosen:
    """What fits the bands of the files."""
    root, sources = Path(recipe.data.root), [tile.source for tile in layout.tiles]
    assert tiles.inventory is not None, "there are files"
    try:
        with reading():
            own = header_of(root, sources[0], scenes=recipe.data.scenes).names
    except Unusable:
        own = None
    return band_choices(tiles.form, tiles.inventory, own)


def _form(recipe: Recipe, layout: Layout) -> Form:
    data = recipe.data
    with reading():
        return common_form(Path(data.root), layout.tiles, band_names(data), data.use_bands, data.mask_band, data.scenes)


def _are_scenes(recipe: Recipe) -> bool:
    """Whether the files are rasters far larger than a tile."""
    data, layout = recipe.data, _layout_of(recipe)
    rasters = sum(tile.source.path.lower().endswith(RASTERS) for tile in layout.tiles)
    with reading():
        sides = sorted(shorter_sides(Path(data.root), layout.tiles))
    times = OF_FEW if len(layout.tiles) < FEW and not _has_labels(layout) else OF_SCENES
    large = bool(sides) and sides[len(sides) // 2] >= times * data.size
    return large and 2 * rasters > len(layout.tiles)


def _has_labels(layout: Layout) -> bool:
    return any(tile.label is not None for tile in layout.tiles)


def _layout_of(recipe: Recipe) -> Layout:
    return layout_of(recipe.data, card_of(recipe.data))


def _of_card(card: Path) -> str:
    """Why the recipe names a card."""
    if card.exists():
        return "your card, as it was; the images are read as it says"
    return f"what was found, and lines for what no file says: {YOURS}. It changes nothing of how the images are read"


def _layout(tiles: FoundTiles, layout: Layout, labels: FoundLabels | None) -> str:
    """What was found: number, classes, and how they are divided."""
    count = counted(len(tiles.split), "tile")
    if tiles.classes:
        shown = ", ".join(tiles.classes[:SHOWN]) + (", ..." if len(tiles.classes) > SHOWN else "")
        how = {MULTI_LABEL: ", several a tile", MASKS: ", one a pixel in masks"}.get(tiles.kind, "")
        classes = counted(len(tiles.classes), "class", "classes")
        count += f" of {classes} ({shown}{how}), {int(tiles.has_label.sum()):,} labelled"
    else:
        cuts = any(tile.source.window for tile in layout.tiles)
        giver = "Polygons or a raster" if cuts else "A table"
        hint = labels.reason if labels else f"{giver} can give some: labels: {'FILE.gpkg' if cuts else 'FILE.csv'}"
        count += f" without labels: there will be no scores. {hint}"
    return f"{count}. {tiles.told}"


def _examples(bands: int) -> list[str]:
    known = ["blue", "green", "red", "near infrared"]
    return known if bands == len(known) else ["near infrared"] if bands == 1 else ["FIRST", "SECOND", "..."]


def _of_start(kind: str, tiles: FoundTiles) -> dict[str, str]:
    """Why the networks begin as they do."""
    if kind == COLOUR:
        return {
            "pretrain.start": "the bands are red, green and blue, so public ImageNet weights fit and are continued",
            "pretrain.targets": "the backbone learns what the same network, frozen, sees in the tile enlarged",
            "pretrain.source": "both views show the tile itself, so no generator is trained",
            "pretrain.pairing": "no direction is special, as in data.symmetry",
            "compare.fractions": "shares of the labels to fine-tune with, such as [0.1]; none: probes alone",
        }
    return {
        "generator.tokenizer": f"no public network knows {tiles.form.bands} such bands, so all begins from nothing: a "
        f"VQGAN turns tiles into tokens, a MaskGIT fills in hidden ones",
        "views.mask_probability": "share of a tile's tokens that a generative view paints in anew",
        "pretrain.backbone": "from random weights, for as many bands as there are",
        "pretrain.mixing_rate": "share of pairs with a generative view",
        "compare.arms": "handcrafted views alone and supervised training, which the generator has to beat",
    }


# ---------------------------------------------------------------- this machine, and the time there is


def _costs(recipe: Recipe, tiles: FoundTiles) -> Costs:
    tokens = recipe.generator.has_tokens and arms.needs_generator(recipe)
    return measure(recipe, tiles.form.bands, tiles.rgb, tokens, tiles.kind)


def _for_memory(fitted: Fitted, tiles: FoundTiles) -> tuple[Fitted, Costs]:
    """Halve the batches until a step of each network takes at most half of the free memory."""
    room = OF_MEMORY * free_memory()
    while True:
        recipe = fitted.recipe
        costs = _costs(recipe, tiles)
        most = max(row.memory or 0 for row in estimate(recipe, tiles, costs, {}))
        plain = recipe.model_dump(mode="json")
        batches = {key: batch for key in BATCHES if (batch := _value(plain, key)) is not None}
        halved = {key: max(SMALLEST_BATCH, batch // 2) for key, batch in batches.items() if batch > SMALLEST_BATCH}
        if most <= room or not halved:
            break
        fitted = fitted.but(halved)
    lowered = " (halved for that)" if "pretrain.batch" in fitted.chosen else ""
    reason = f"a step takes about {in_bytes(most)} at most, and {in_bytes(round(2 * room))} are free{lowered}"
    if most > room:
        warn(f"{reason}: there may be too little memory; lower data.size or choose a smaller backbone")
    return fitted.but({}, {"pretrain.batch": reason}), costs


def _for_minutes(fitted: Fitted, tiles: FoundTiles, costs: Costs, minutes: float | None) -> tuple[Fitted, float]:
    """Scale the epochs so that all stages take the minutes; returns also the seconds that they take."""

    def seconds(trial: Fitted) -> float:
        return sum(row.seconds or 0 for row in estimate(trial.recipe, tiles, costs, {}))

    given = {key: fitted.chosen[key] for key in EPOCHS if key in fitted.chosen}
    whole = seconds(fitted)
    train = f"{tiles.count('train'):,} training tiles"
    if minutes is None:
        reason = f"the steps of the shipped recipe, for {train}; gcl-custom init --minutes fits them to a time"
        return fitted.but({}, {"pretrain.epochs": reason}), whole
    fitted = _less_comparison(fitted, tiles, costs, 60 * minutes)
    for step in range(STEPS):
        times = MOST_TIMES * 0.95**step
        trial = fitted.but({key: max(1, round(epochs * times)) for key, epochs in given.items()})
        took = seconds(trial)
        if took <= 60 * minutes or all(trial.chosen[key] == 1 for key in given):
            break
    if took > 60 * minutes:
        warn(f"even one epoch of each training, with what surrounds it, takes about {duration(took)}: more than wanted")
    reason = (
        f"as many as {minutes:g} minutes allow for {train}; the shipped recipe's steps would take {duration(whole)}"
    )
    if times == MOST_TIMES:
        reason = (
            f"{MOST_TIMES} times the shipped recipe's steps, which is enough for {train} and takes less than wanted"
        )
    return trial.but({}, {"pretrain.epochs": reason}), took


def _less_comparison(fitted: Fitted, tiles: FoundTiles, costs: Costs, budget: float) -> Fitted:
    """Leave out fine-tuning, then the supervised baseline, where the comparison would take half of the budget."""
    for key, less in (
        ("compare.fractions", []),
        ("compare.arms", [arm for arm in fitted.recipe.compare.arms if arm != "supervised"]),
    ):
        recipe = fitted.recipe
        took = sum(row.seconds or 0 for row in estimate(recipe, tiles, costs, {}) if row.name == "compare")
        if took > budget / 2 and _value(recipe.model_dump(mode="json"), key) != less:
            given = ", ".join(map(str, _value(recipe.model_dump(mode="json"), key)))
            fitted = fitted.but({key: less}, {key: f"{given} would take {duration(took)}, half of the time or more"})
    return fitted


def free_memory() -> int:
    """Bytes that are free: of the GPU, if there is one, otherwise of this machine or of this container."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    meminfo, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if meminfo.is_file() and (found := re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())):
        free = 1024 * int(found[1])
    if limit.is_file() and (text := limit.read_text().strip()).isdecimal():
        free = min(free, int(text))
    return free


# ---------------------------------------------------------------- keys


def _value(values: Values, key: str) -> Any:
    """The value of key.path in nested sections; None if there is none."""
    here: Any = values
    for part in key.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    return here


def _typed(values: Mapping[str, Any]) -> list[str]:
    """The values as a user would type them behind --set."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _set(values: Values, key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = value

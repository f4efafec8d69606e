"""A model card for a backbone: how to use it, what it was made from, how it scored, and the licence of its data."""

from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from gcl_custom import __version__
from gcl_custom.counted import counted
from gcl_custom.evaluation.figures import column_title, in_columns, title
from gcl_custom.evaluation.score_texts import (
    above,
    interval_text,
    mean_text,
    of_draws,
    of_floors,
    of_probes,
    over,
    seeds_text,
)
from gcl_custom.evaluation.scoring import caption
from gcl_custom.export.backbone_of_run import TrainedBackbone
from gcl_custom.files import read_json
from gcl_custom.imagery.splits import told
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import arms, plan
from gcl_custom.weights.needed import named

HEAD = """---
library_name: timm
pipeline_tag: image-feature-extraction
tags:
- timm
- image-feature-extraction
- self-supervised-learning
- gcl-custom
---
"""
LIBRARIES = ("torch", "timm", "safetensors")


def model_card(known: TrainedBackbone, lines: list[str]) -> str:
    """The card as Markdown.

    Args:
        lines: lines of Python that load the network as ``backbone``, in evaluation mode.
    """
    recipe = known.run.recipe
    data = known.card.title if known.card else f"the imagery in {Path(recipe.data.root).name}"
    sections = {
        f"{known.run.path.name}: {known.architecture} pretrained on {data}": _summary(known),
        "Use": "\n".join(["```python", *lines, "```"])
        + f"\n\nIt maps tiles to representations of {known.width} numbers. There is no classifier in it.",
        "Input": known.input,
        "Data": _data(known),
        "Training": _training(known),
        "Scores": _scores(known),
        "Licence": _licence(known),
        "Versions": ", ".join([f"gcl-custom {__version__}", *(f"{n} {metadata.version(n)}" for n in LIBRARIES)]) + ".",
    }
    return HEAD + "".join(
        f"\n{'##' if number else '#'} {name}\n\n{text}\n" for number, (name, text) in enumerate(sections.items())
    )


def _summary(known: TrainedBackbone) -> str:
    recipe = known.run.recipe
    text = (
        f"A backbone pretrained without labels by gcl-custom, a kit for generative contrastive learning (GCL, "
        f"arXiv:2403.05966). Arm of the comparison: {known.arm} ({title(known.arm)}); seed {known.seed}."
    )
    if recipe.data.synthetic:
        text += (
            "\n\n**The imagery is synthetic.** It was drawn by a program, to try the software: this network has seen "
            "no photograph."
        )
    return text


def _data(known: TrainedBackbone) -> str:
    facts, card = plan.tiles(known.run).facts, known.card
    tiles = ", ".join(f"{count:,} {split}" for split, count in facts["tiles"].items())
    lines = [
        f"Tiles of {known.store.size} px: {tiles}. Pretraining saw the "
        f"{counted(facts['tiles']['train'], 'train tile')} only."
    ]
    if card:
        lines += [f"Data set: {card.title}.", f"Source: {card.source}.", f"Licence: {card.licence}."]
    else:
        lines.append("Source and licence: the recipe names no card for this data set.")
    classes = facts["classes"]
    lines.append(f"Classes, for the scores only: {', '.join(classes)}." if classes else "The tiles have no labels.")
    lines += [card.notes] if card and card.notes else []
    return "\n".join(f"- {line}" for line in lines)


def _training(known: TrainedBackbone) -> str:
    recipe = known.run.recipe
    settings = arms.arm_settings(recipe, known.arm)
    start = f"weights of the start ({settings.start.name}), batch norms {arms.norms_of(settings)}; "
    return (
        f"{start * settings.continues}{settings.method.name}, {counted(settings.epochs, 'epoch')}, batch "
        f"{settings.batch}, views "
        f"of {settings.crop_size or recipe.data.size} px, stem {settings.stem}, mixing rate "
        f"{settings.mixing_rate:g} of views that are {settings.source}. The whole recipe of the run, with every "
        f"default:\n\n<details><summary>recipe.yaml</summary>\n\n```yaml\n{_shareable(recipe)}```\n\n</details>"
    )


def _shareable(recipe: Recipe) -> str:
    """The recipe as YAML, with file names in place of this machine's paths."""
    values: dict[str, Any] = recipe.model_dump(mode="json")
    data = values["data"]
    data |= {key: Path(data[key]).name for key in ("root", "card", "labels") if data[key]}
    if store := data["store"]:
        store |= {key: Path(store[key]).name for key in ("address", "cache")}
    for weights in named(recipe):
        section = values
        *way, last = weights.key.split(".")
        for step in way:
            section = section[step]
        if isinstance(section[last], str):  # weights of timm are named by the backbone
            section[last] = weights.without_folders
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _scores(known: TrainedBackbone) -> str:
    stage = plan.compare(known.run)
    split = told(known.run)
    if not stage.done:
        return f"None: this run's comparison is not finished. {split}"
    scores: dict[str, Any] = read_json(stage.path / "scores.json")
    columns, by_arm = in_columns(scores["scores"])
    names = [column_title(column) for column in columns]
    rows = [["", *names], ["---"] * (1 + len(names))]
    tiles = scores["test_tiles"]
    rows += [[title(arm), *(_cell(cells.get(column), tiles) for column in columns)] for arm, cells in by_arm.items()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    own = scores["scores"].get(known.arm, {}).get("linear", {}).get("seeds", {}).get(str(known.seed))
    this = f" The backbone of this card: linear probe {mean_text({'mean': own}, tiles)} %." if own is not None else ""
    before = "".join(f"- {text}\n" for text in above(scores)) + "\n"
    return (
        f"{caption(scores['measure'])} {counted(scores['test_tiles'], 'test tile')}; intervals {over(scores)}. "
        f"{of_probes(scores)}. Shares of labels: the whole network trained, from the backbone, "
        f"or, for the supervised baseline, from the weights that pretraining began with. {of_draws(scores)} "
        f"{of_floors(scores)}{this}\n\n"
        f"{table}\n\n{before}{scores['verdict']} {scores['cause']} {scores['seeds_show']}\n\n{scores['split']}"
    )


def _cell(score: dict[str, Any] | None, tiles: int) -> str:
    if score is None:
        return ""
    each = seeds_text(score, tiles)
    return f"{mean_text(score, tiles)} ({interval_text(score, tiles)}{f'; seeds {each}' if each else ''})"


def _licence(known: TrainedBackbone) -> str:
    licence = known.card.licence if known.card else "not stated"
    return (
        f"Of the data: {licence}. These weights were learned from that data; under which licence they may be passed on "
        f"is for whoever publishes them to decide and to write here. gcl-custom itself is under Apache-2.0."
    )

"""What a comparison with labels consists of: metrics, draws of labels, and the stages of trainings; and its tables.

``score_backbone`` computes what is named here. All backbones scored with the same seed see the same labels and the same
validation and test tiles, so their scores are paired.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from jaxtyping import Int
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.evaluation.figures import Figure, column_title, in_columns, share_name
from gcl_custom.evaluation.inference import labelled
from gcl_custom.evaluation.score_texts import interval_text, mean_text, seeds_text
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.measures.label_kinds import kind_scored_by
from gcl_custom.recipe.evaluation import (
    EVALUATIONS,
    LEAST_SUPERVISED_STEPS,
    PATIENCE,
    WITH_LABELS,
    Arm,
    CompareSettings,
)
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

SHOWN_MASKS, MASKS_SHOWN = 6, "masks.npy"
"""Test tiles whose masks a probe keeps, spread evenly, and the file that it keeps them in."""
CELL = 14
"""Characters of a column of scores, with the gap before it."""


def require_labels(run: Run) -> None:
    """Check that scores can be computed on these tiles, before any time is spent.

    Raises:
        UserError: a split has no labelled tile, or all training tiles are of one class.
    """
    store = TileStore(plan.tiles(run).path)
    advice = (
        "A comparison needs labels: put the tiles of each class in a folder of its own, name the classes in a card "
        "(data.card), or give a table of labels (data.labels) or masks (data.masks). Pretraining needs none: "
        f"gcl-custom pretrain {run.options}"
    )
    for split in ("train", "valid", "test"):
        if not len(labelled(store, split)):
            raise UserError(f"{run.recipe.data.root}: none of the {split} tiles has a label. {advice}")
    only = store.kind.only_class(store.labels[labelled(store, "train")])
    if only is not None:
        raise UserError(
            f"{run.recipe.data.root}: all labelled training tiles are of one class ({store.classes[only]}). {advice}"
        )


# ---------------------------------------------------------------- probes


def probed_metrics(compare: CompareSettings, kind: LabelKind, classes: int) -> list[str]:
    """The metrics of a probe: with all labels, with fewer for each class, and with shares of them."""
    return [*kind.probes(classes), *of_few(compare, kind)]


def of_few(compare: CompareSettings, kind: LabelKind) -> Mapping[str, Callable[..., Int[Tensor, " m"]]]:
    """Metric with few labels -> what draws them: labels and seed -> positions.

    A share's draw has the labels that fine-tuning with the same seed has.
    """
    shots = {f"shots@{each}": partial(kind.shots, each=each) for each in sorted(compare.shots)}
    shares = {f"probe@{share_name(f)}": partial(kind.subset, fraction=f) for f in sorted(compare.fractions) if f < 1}
    return (shots if kind.draws_shots else {}) | (shares if kind.draws_shares else {})


def doubt(name: str) -> str:
    """The warning about a linear probe that stopped before its optimum."""
    return f"The linear probe of {name} did not converge: its score may be too low."


# ---------------------------------------------------------------- trainings with labels


def best_rate(rates: Sequence[float], valid: Callable[[float], float]) -> float:
    """The learning rate with the best validation score; the lowest in a tie. A single rate needs no trial."""
    return max(sorted(rates), key=valid) if len(rates) > 1 else rates[0]


def train_settings(recipe: Recipe, backbone: Any, share: str, seed: int, rate: float) -> dict[str, Any]:
    """What a training with labels depends on, besides tiles and weights."""
    everything, compare = share == "all", recipe.compare
    # Without a number of epochs, those of pretraining count, and so does the least number of steps.
    epochs = compare.supervised_epochs or [recipe.pretrain.epochs, LEAST_SUPERVISED_STEPS]
    return {
        "labels": share,
        "learning_rate": rate,
        "batch": compare.batch,
        "epochs": epochs if everything else None,
        "steps": None if everything else compare.finetune_steps,
        "kept": {"of": EVALUATIONS, "patience": PATIENCE},
        "handcrafted": recipe.pretrain.handcrafted.model_dump(mode="json"),
        "backbone": backbone,
        "seed": seed,
        "precision": recipe.hardware.precision,
    }


def training_stage(run: Run, figure: Figure, seed: int, rate: float) -> Stage:
    """The stage of a training of the comparison."""
    recipe = run.recipe
    kind, _, share = figure.metric.partition("@")
    supervised = figure.arm in WITH_LABELS
    inputs = [plan.tiles(run) if supervised else plan.pretrain(run, cast(Arm, figure.arm), seed)]
    backbone = [recipe.pretrain.backbone, recipe.pretrain.stem, recipe.pretrain.crop_size]
    settings = train_settings(recipe, backbone, share, seed, rate) | (
        plan.supervised_start(run, figure.arm) if supervised else {}
    )
    name = f"{kind}/{figure.arm}-{seed}-{share}-{rate:g}"
    return run.stage(name, settings, inputs, "gcl-custom compare-supervised")


def train_tiles(store: TileStore, share: str, seed: int) -> Int[Tensor, " m"]:
    """The training tiles whose labels may be used: with the same seed, the same for every backbone."""
    tiles = labelled(store, "train")
    if share == "all":
        return tiles
    return tiles[store.kind.subset(store.labels[tiles], float(share), seed)]


# ---------------------------------------------------------------- what a person reads


def caption(measure: str) -> str:
    """What the numbers of a table are."""
    return kind_scored_by(measure).caption


def tables(
    scores: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], note: str, tiles: int, width: int
) -> Group:
    """Scores with their intervals, in as many tables below each other as keep the columns readable.

    Each has a row for each backbone, under its title, that has a score there.

    Args:
        tiles: number of test tiles.
        width: of the terminal, in characters.
    """
    columns, rows = in_columns(scores)
    beside = max(1, (width - max(map(len, titles.values()))) // CELL)
    shown = []
    for some in (columns[first : first + beside] for first in range(0, len(columns), beside)):
        part = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        part.add_column("")
        for column in some:
            part.add_column(column_title(column), justify="right")
        for name, cells in rows.items():
            if any(column in cells for column in some):
                part.add_row(titles[name], *(_cell(cells.get(column), tiles) for column in some))
        shown.append(part)
    return Group(*shown, Text(note, style="dim"))


def _cell(score: dict[str, Any] | None, tiles: int) -> Text:
    if score is None:
        return Text()
    each = seeds_text(score, tiles)
    return Text.assemble(
        f"{mean_text(score, tiles)}\n", (interval_text(score, tiles), "dim"), (f"\n{each}" if each else "", "dim")
    )

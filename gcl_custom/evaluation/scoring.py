"""Scoring a backbone with labels: probes of the frozen backbone, and trainings of the whole network.

The stages decide which backbones are scored, in which folders, and what follows from the scores. Each probe and each
training is a stage of its own, so interrupted work resumes where it was. All backbones scored with the same seed see
the same labels and the same validation and test tiles, so their scores are paired.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from gcl_custom import console
from gcl_custom.counted import either, percent
from gcl_custom.errors import UserError
from gcl_custom.evaluation.classifier import EVALUATIONS, PATIENCE, Classifier
from gcl_custom.evaluation.curves import Training
from gcl_custom.evaluation.figures import Figure, column_title, in_columns, share_name
from gcl_custom.evaluation.inference import infer, labelled, predict
from gcl_custom.evaluation.score_texts import interval_text, mean_text, seeds_text
from gcl_custom.evaluation.segmentation import maps
from gcl_custom.evaluation.segmentation.pixel_probe import Seen, probe_pixels
from gcl_custom.files import read_json, write_atomically, write_json
from gcl_custom.imagery.tile_store import TileStore, spread
from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.measures.label_kinds import LAST_MAP, TOP_5, kind_scored_by
from gcl_custom.measures.pixel_features import PixelFeatures
from gcl_custom.measures.probes import Labelled, knn, linear_probe, probes_of_few
from gcl_custom.recipe.evaluation import FEW_NEIGHBOURS, LEAST_SUPERVISED_STEPS, WITH_LABELS, Arm, CompareSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.batches import Batches
from gcl_custom.training.loop import fit

SHOWN_MASKS, MASKS_SHOWN = 6, "masks.npy"
"""Test tiles whose masks a probe keeps, spread evenly, and the file that it keeps them in."""
CELL = 14
"""Characters of a column of scores, with the gap before it."""
BuildBackbone = Callable[[], tuple[nn.Module, int]]
"""Builds a backbone, ready to be scored or trained, and returns it with its width."""


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
    return [*kind.probes(classes), *_of_few(compare, kind)]


def _of_few(compare: CompareSettings, kind: LabelKind) -> Mapping[str, Callable[..., Int[Tensor, " m"]]]:
    """Metric with few labels -> what draws them: labels and seed -> positions.

    A share's draw has the labels that fine-tuning with the same seed has.
    """
    shots = {f"shots@{each}": partial(kind.shots, each=each) for each in sorted(compare.shots)}
    shares = {f"probe@{share_name(f)}": partial(kind.subset, fraction=f) for f in sorted(compare.fractions) if f < 1}
    return (shots if kind.draws_shots else {}) | (shares if kind.draws_shares else {})


def probe(stage: Stage, store: TileStore, recipe: Recipe, build: BuildBackbone) -> dict[str, Any]:
    """Probes of a frozen backbone: what each says of each test tile, and the linear probe's penalty.

    With few labels there is a linear probe for each draw, and what each of them says.
    """
    if not stage.done:
        stage.begin()
        index = {split: labelled(store, split) for split in ("train", "valid", "test")}
        (_probe_pixels if store.kind.dense else _probe_tiles)(stage, store, recipe, build()[0], index)
    return cast(dict[str, Any], read_json(stage.path / "probes.json"))


def _probe_pixels(
    stage: Stage, store: TileStore, recipe: Recipe, backbone: nn.Module, index: Mapping[str, Int[Tensor, " _"]]
) -> None:
    """Linear probes of the maps, and the masks of a few test tiles for the report."""
    network = backbone if isinstance(backbone, PixelFeatures) else maps.of_probe(backbone, store)
    few = _of_few(recipe.compare, store.kind)
    labels = store.labels[index["train"]]
    draws = {
        metric: [index["train"][draw(labels, seed=number)] for number in range(recipe.compare.draws)]
        for metric, draw in few.items()
    }
    seen = Seen(network, store, recipe.hardware)
    kept, masks = probe_pixels(seen, index, draws, recipe.compare.penalties, spread(index["test"], SHOWN_MASKS))
    write_json(stage.path / "probes.json", kept)
    with write_atomically(stage.path / MASKS_SHOWN) as part, part.open("wb") as file:
        np.save(file, masks.numpy())
    truth = store.labels[index["test"]]
    figures = {name: store.kind.score(torch.tensor(kept[name]), truth) for name in ("linear", LAST_MAP) if name in kept}
    stage.finish(**figures, penalty=kept["penalty"])
    console.say(f"{stage.name}: linear probe of pixels, mIoU {percent(figures['linear'], len(truth))}")


def _probe_tiles(
    stage: Stage, store: TileStore, recipe: Recipe, backbone: nn.Module, index: Mapping[str, Int[Tensor, " _"]]
) -> None:
    """Linear probes and kNN of the representations, which are computed once."""
    kind = store.kind
    found = {split: infer(backbone, store, tiles, recipe.hardware) for split, tiles in index.items()}
    train, valid = (Labelled(found[s], store.labels[index[s]].to(found[s].device), kind) for s in ("train", "valid"))
    classes = len(store.classes)
    linear = linear_probe(train, valid, found["test"], classes, recipe.compare.penalties)
    decided = {
        "linear": kind.decide(linear.scores),
        "knn": kind.decide(knn(train, found["test"], classes, recipe.compare.neighbours)),
        "knn5": kind.decide(knn(train, found["test"], classes, FEW_NEIGHBOURS)),
    }
    truth, converged = store.labels[index["test"]], linear.converged
    few: dict[str, list[Any]] = {}
    for metric, draw in _of_few(recipe.compare, kind).items():
        drawn = [draw(store.labels[index["train"]], seed=number) for number in range(recipe.compare.draws)]
        given, settled = probes_of_few(train, found["test"], classes, drawn)
        few[metric] = [kind.decide(scores).tolist() for scores in given]
        converged = converged and settled
    kept: dict[str, Any] = {
        **{metric: predictions.tolist() for metric, predictions in decided.items()},
        **few,
        "penalty": linear.penalty,
        "valid": linear.valid_score,
        "converged": converged,
    }
    if TOP_5 in kind.probes(classes):
        kept[TOP_5] = linear.ranked(5).tolist()
    write_json(stage.path / "probes.json", kept)
    figures = {metric: kind.score(predictions, truth) for metric, predictions in decided.items()}
    stage.finish(**figures, penalty=linear.penalty)
    shown = {metric: percent(figures[metric], len(truth)) for metric in ("linear", "knn")}
    console.say(f"{stage.name}: linear probe {shown['linear']}, kNN {shown['knn']}")


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


def train(
    stage: Stage, store: TileStore, recipe: Recipe, build: BuildBackbone, share: str, seed: int, rate: float
) -> dict[str, Any]:
    """Train with a share of the labels: its curve, and what the classifier says of each test tile.

    A training with all labels takes as many epochs as the supervised baseline; with fewer labels, it takes
    ``compare.finetune_steps``. The test tiles are classified here, once, and scored only for the chosen learning rate.

    Returns:
        The keys of ``curves.Training``, and under ``test`` what is said of the test tiles.
    """
    if not stage.done:
        stage.begin()
        outcome = _train(stage, store, recipe, build, share, seed, rate)
        write_json(stage.path / "predictions.json", outcome)
        stage.finish(valid=outcome["valid"], steps=outcome["steps"], most_steps=outcome["most_steps"])
        (stage.path / "last.ckpt").unlink(missing_ok=True)  # each is several times the weights, and there are dozens
        of = f" of {outcome['most_steps']:,}" if outcome["steps"] < outcome["most_steps"] else ""
        score = percent(outcome["valid"], outcome["valid_tiles"])
        console.say(
            f"{stage.name}: {outcome['steps']:,}{of} {either(outcome['most_steps'], 'step', 'steps')}, "
            f"validation {score}"
        )
    return cast(dict[str, Any], read_json(stage.path / "predictions.json"))


def _train(
    stage: Stage, store: TileStore, recipe: Recipe, build: BuildBackbone, share: str, seed: int, rate: float
) -> dict[str, Any]:
    index = train_tiles(store, share, seed)
    batches = Batches(index, recipe.compare.batch, seed, store.read, store, recipe.hardware.processes)
    if share == "all":
        epochs = recipe.compare.epochs_on_all(recipe.pretrain.epochs, batches.steps_per_epoch)
    else:
        epochs = math.ceil(recipe.compare.finetune_steps / batches.steps_per_epoch)
    backbone, width = build()
    steps = epochs * batches.steps_per_epoch
    module = Classifier(backbone, width, store, recipe.pretrain, recipe.hardware, rate, steps, seed)
    module.evaluate_every = math.ceil(epochs / EVALUATIONS)
    history = fit(module, batches, stage, recipe.hardware, epochs, seed)
    module.take_best()
    training = Training(
        valid=module.best,
        steps=round(history[-1]["epoch"]) * batches.steps_per_epoch,
        most_steps=steps,
        curve=[
            (round(row["epoch"]) * batches.steps_per_epoch, row[module.figure])
            for row in history
            if module.figure in row
        ],
        valid_tiles=len(labelled(store, "valid")),
    )
    return {**training, "test": predict(module, store, labelled(store, "test"), recipe.hardware).tolist()}


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

"""Scoring a backbone with labels: probes of the frozen backbone, and trainings of the whole network.

The stages decide which backbones are scored, in which folders, and what follows from the scores. Each probe and each
training is a stage of its own, so interrupted work resumes where it was. All backbones scored with the same seed see
the same labels and the same validation and test tiles, so their scores are paired.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from jaxtyping import Int
from rich import box
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from gcl_custom import console
from gcl_custom.errors import UserError
from gcl_custom.evaluation.classifier import EVALUATIONS, Classifier
from gcl_custom.evaluation.inference import infer, labelled, predict
from gcl_custom.evaluation.verdict import column_title, in_columns, percent
from gcl_custom.files import read_json, write_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.label_kinds import TOP_5, kind_scored_by
from gcl_custom.measures.probes import Labelled, knn, linear_probe
from gcl_custom.recipe.evaluation import FEW_NEIGHBOURS
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.batches import Batches
from gcl_custom.training.loop import fit

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
        "(data.card), or give a table of labels (data.labels). Pretraining needs none: gcl-custom pretrain "
        f"{run.options}"
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


def probe(stage: Stage, store: TileStore, recipe: Recipe, build: BuildBackbone) -> dict[str, Any]:
    """Linear probe and kNN of a frozen backbone: what both say of each test tile, and the probe's penalty."""
    if stage.done:
        return cast(dict[str, Any], read_json(stage.path / "probes.json"))
    kind = store.kind
    stage.begin()
    backbone, _ = build()
    index = {split: labelled(store, split) for split in ("train", "valid", "test")}
    found = {split: infer(backbone, store, tiles, recipe.hardware) for split, tiles in index.items()}
    train, valid = (Labelled(found[s], store.labels[index[s]].to(found[s].device), kind) for s in ("train", "valid"))
    classes = len(store.classes)
    linear = linear_probe(train, valid, found["test"], classes, recipe.compare.penalties)
    decided = {
        "linear": kind.decide(linear.scores),
        "knn": kind.decide(knn(train, found["test"], classes, recipe.compare.neighbours)),
        "knn5": kind.decide(knn(train, found["test"], classes, FEW_NEIGHBOURS)),
    }
    truth = store.labels[index["test"]]
    kept: dict[str, Any] = {
        **{metric: predictions.tolist() for metric, predictions in decided.items()},
        "penalty": linear.penalty,
        "valid": linear.valid_score,
        "converged": linear.converged,
    }
    if TOP_5 in kind.probes(classes):
        kept[TOP_5] = linear.ranked(5).tolist()
    write_json(stage.path / "probes.json", kept)
    figures = {metric: kind.score(predictions, truth) for metric, predictions in decided.items()}
    stage.finish(**figures, penalty=linear.penalty)
    console.say(f"{stage.name}: linear probe {percent(figures['linear'])}, kNN {percent(figures['knn'])}")
    return kept


def doubt(name: str) -> str:
    """The warning about a linear probe that stopped before its optimum."""
    return f"The linear probe of {name} did not converge: its score may be too low."


# ---------------------------------------------------------------- trainings with labels


def best_rate(rates: Sequence[float], valid: Callable[[float], float]) -> float:
    """The learning rate with the best validation score; the lowest in a tie. A single rate needs no trial."""
    return max(sorted(rates), key=valid) if len(rates) > 1 else rates[0]


def train_settings(recipe: Recipe, backbone: Any, share: str, seed: int, rate: float) -> dict[str, Any]:
    """What a training with labels depends on, besides tiles and weights."""
    everything = share == "all"
    return {
        "labels": share,
        "learning_rate": rate,
        "batch": recipe.compare.batch,
        "epochs": (recipe.compare.supervised_epochs or recipe.pretrain.epochs) if everything else None,
        "steps": None if everything else recipe.compare.finetune_steps,
        "handcrafted": recipe.pretrain.handcrafted.model_dump(mode="json"),
        "backbone": backbone,
        "seed": seed,
        "precision": recipe.hardware.precision,
    }


def train(
    stage: Stage, store: TileStore, recipe: Recipe, build: BuildBackbone, share: str, seed: int, rate: float
) -> dict[str, Any]:
    """Train with a share of the labels: the validation score, and what the classifier says of each test tile.

    A training with all labels takes as many epochs as the supervised baseline; with fewer labels, it takes
    ``compare.finetune_steps``. The test tiles are classified here, once, and scored only for the chosen learning rate.
    """
    if not stage.done:
        stage.begin()
        outcome = _train(stage, store, recipe, build, share, seed, rate)
        write_json(stage.path / "predictions.json", outcome)
        stage.finish(valid=outcome["valid"])
        (stage.path / "last.ckpt").unlink(missing_ok=True)  # each is three times the weights, and there are dozens
        console.say(f"{stage.name}: validation {percent(outcome['valid'])}")
    return cast(dict[str, Any], read_json(stage.path / "predictions.json"))


def _train(
    stage: Stage, store: TileStore, recipe: Recipe, build: BuildBackbone, share: str, seed: int, rate: float
) -> dict[str, Any]:
    index = train_tiles(store, share, seed)
    processes = recipe.hardware.devices
    batch = max(1, min(recipe.compare.batch, len(index)) // processes) * processes
    batches = Batches(index, batch, seed, store.read)
    epochs = recipe.compare.supervised_epochs or recipe.pretrain.epochs
    if share != "all":
        epochs = math.ceil(recipe.compare.finetune_steps / batches.steps_per_epoch)
    backbone, width = build()
    steps = epochs * batches.steps_per_epoch
    module = Classifier(backbone, width, store, recipe.pretrain, recipe.hardware, rate, steps, seed)
    module.evaluate_every = max(1, epochs // EVALUATIONS)
    fit(module, batches, stage, recipe.hardware, epochs, seed)
    valid, test = (labelled(store, split) for split in ("valid", "test"))
    return {
        "valid": store.kind.score(predict(module, store, valid, recipe.hardware), store.labels[valid]),
        "test": predict(module, store, test, recipe.hardware).tolist(),
    }


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


def table(scores: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], note: str) -> Table:
    """Scores with their intervals: a row for each backbone, under its title."""
    columns, rows = in_columns(scores)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=note, caption_justify="left")
    shown.add_column("")
    for column in columns:
        shown.add_column(column_title(column), justify="right")
    for name, cells in rows.items():
        shown.add_row(titles[name], *(_cell(cells.get(column)) for column in columns))
    return shown


def _cell(score: dict[str, Any] | None) -> Text:
    if score is None:
        return Text()
    interval = f"{100 * score['low']:.1f}–{100 * score['high']:.1f}"
    return Text.assemble(f"{100 * score['mean']:.2f}\n", (interval, "dim"))

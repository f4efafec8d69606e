"""Stage: probes and fine-tuning of every pretrained backbone, the supervised baseline, and the verdict.

All arms of a seed see the same labels and the same validation and test tiles, so their scores are paired. Penalties
and learning rates are chosen on validation tiles, a learning rate once for each arm and label fraction, with the first
seed. Each probe and each training is a stage of its own, so an interrupted comparison goes on where it was.
"""

import math
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from rich import box
from rich.table import Table
from torch import Tensor, nn

from gcl_custom import backbones, console, plan, trained
from gcl_custom.errors import UserError
from gcl_custom.imagery import TileStore
from gcl_custom.probes import Labelled, accuracy, knn, linear_probe
from gcl_custom.randomness import derive
from gcl_custom.recipe import Arm
from gcl_custom.runs import Run, Stage, read_json, write_json
from gcl_custom.splits import in_words, subset
from gcl_custom.supervised import EVALUATIONS, Classifier, infer, labelled, predict
from gcl_custom.training import Batches, fit
from gcl_custom.verdict import Figure, in_columns, metric_title, percent, share_title, summarise, title

REMEDY = "gcl-custom compare-supervised"


def run(run: Run) -> None:
    """Write ``scores.json`` and show it.

    Raises:
        UserError: where tiles lack labels, or a pretraining is not there.
    """
    stage = plan.compare(run)
    if stage.done:
        console.say(f"compare: already done in {stage.path}")
        show(read_json(stage.path / "scores.json"))
        return
    require_labels(run)
    stage.begin()
    recipe = run.recipe.compare
    store = TileStore(plan.tiles(run).path)
    predictions: dict[Figure, list[list[int]]] = {}
    warnings: list[str] = []
    pretrained = [arm for arm in recipe.arms if arm != "supervised"]
    for arm in (*pretrained, "untrained"):
        for seed in recipe.seeds:
            probed = probe(run, store, arm, seed)
            for metric in ("linear", "knn"):
                predictions.setdefault(Figure(arm, metric), []).append(probed[metric])
            if not probed["converged"]:
                warnings.append(f"The linear probe of {arm}, seed {seed}, did not converge: its score may be too low.")

    rates: dict[str, float] = {}
    shares = [f"{fraction:g}" for fraction in recipe.fractions]
    tuned = [Figure(arm, f"finetune@{share}") for arm in pretrained for share in shares]
    if "supervised" in recipe.arms:
        tuned += [Figure("supervised", f"supervised@{share}") for share in (*shares, "all")]
    for figure in tuned:
        rate = choose_rate(run, store, figure)
        rates[f"{figure.arm} {figure.metric}"] = rate
        predictions[figure] = [train(run, store, figure, seed, rate)["test"] for seed in recipe.seeds]

    test = labelled(store, "test")
    scores = summarise(
        {figure: np.array(rows) for figure, rows in predictions.items()},
        store.labels[test].numpy(),
        store.classes,
        recipe.seeds,
    )
    scores["labels"] = {share: len(_train_tiles(store, share, recipe.seeds[0])) for share in (*shares, "all")}
    scores["learning_rates"] = rates
    scores["split"] = in_words(plan.tiles(run).facts)
    scores["warnings"] = warnings
    write_json(stage.path / "scores.json", scores)
    stage.finish(verdict=scores["verdict"], cause=scores["cause"])
    show(scores)


def require_labels(run: Run) -> None:
    """Check that the tiles can be compared on, before any time is spent.

    Raises:
        UserError: where a split has no labelled tile, or the training tiles are of fewer than two classes.
    """
    store = TileStore(plan.tiles(run).path)
    advice = (
        "A comparison needs labels: put the tiles of each class in a folder of its own, or name the classes in a card "
        "(data.card). Pretraining needs none: gcl-custom pretrain"
    )
    for split in ("train", "valid", "test"):
        if not len(labelled(store, split)):
            raise UserError(f"{run.recipe.data.root}: none of the {split} tiles has a label. {advice}")
    found = set(store.labels[labelled(store, "train")].tolist())
    if len(found) < 2:
        raise UserError(
            f"{run.recipe.data.root}: all labelled training tiles are of one class ({store.classes[found.pop()]}). "
            f"{advice}"
        )


# ---------------------------------------------------------------- probes


def probe(run: Run, store: TileStore, arm: str, seed: int) -> dict[str, Any]:
    """Linear probe and kNN of a frozen backbone: each test tile's class by both, and how the probe was chosen.

    The arm ``untrained`` is the backbone as it is initialised: the floor that pretraining has to rise above.
    """
    recipe = run.recipe
    inputs = [plan.tiles(run)] if arm == "untrained" else [plan.tiles(run), _pretrained(run, arm, seed)]
    settings = {
        "penalties": recipe.compare.penalties,
        "neighbours": recipe.compare.neighbours,
        "backbone": [recipe.pretrain.backbone, recipe.pretrain.stem],
        "seed": seed,
        "precision": recipe.hardware.precision,
    }
    stage = run.stage(f"probes/{arm}-{seed}", settings, inputs, REMEDY)
    if not stage.done:
        stage.begin()
        backbone, _ = _backbone(run, store, arm, seed)
        index = {split: labelled(store, split) for split in ("train", "valid", "test")}
        found = {split: infer(backbone, store, tiles, recipe.hardware) for split, tiles in index.items()}
        train, valid = (Labelled(found[s], store.labels[index[s]].to(found[s].device)) for s in ("train", "valid"))
        classes = len(store.classes)
        linear = linear_probe(train, valid, found["test"], classes, recipe.compare.penalties)
        nearest = knn(train, found["test"], classes, recipe.compare.neighbours)
        truth = store.labels[index["test"]]
        outcome = {
            "linear": linear.predictions.tolist(),
            "knn": nearest.tolist(),
            "penalty": linear.penalty,
            "valid": linear.valid_accuracy,
            "converged": linear.converged,
        }
        write_json(stage.path / "probes.json", outcome)
        figures = {"linear": accuracy(linear.predictions, truth), "knn": accuracy(nearest, truth)}
        stage.finish(**figures, penalty=linear.penalty)
        console.say(f"{stage.name}: linear probe {percent(figures['linear'])}, kNN {percent(figures['knn'])}")
    return cast(dict[str, Any], read_json(stage.path / "probes.json"))


def _pretrained(run: Run, arm: str, seed: int) -> Stage:
    return plan.pretrain(run, cast(Arm, arm), seed)


def _backbone(run: Run, store: TileStore, arm: str, seed: int) -> tuple[nn.Module, int]:
    """Backbone and width of an arm; ``untrained`` and ``supervised`` have the weights that pretraining begins with."""
    settings = run.recipe.pretrain
    torch.manual_seed(derive(seed, "pretrain", "initial weights"))
    if arm in ("untrained", "supervised"):
        return backbones.build(settings.backbone, store.bands, settings.stem)
    return trained.network_of(run, _pretrained(run, arm, seed), store.bands)


# ---------------------------------------------------------------- trainings with labels


def choose_rate(run: Run, store: TileStore, figure: Figure) -> float:
    """The learning rate with the best validation accuracy of the first seed; of equal ones the lowest."""
    recipe = run.recipe.compare
    rates = sorted(recipe.learning_rates)
    if len(rates) == 1:
        return rates[0]
    return max(rates, key=lambda rate: train(run, store, figure, recipe.seeds[0], rate)["valid"])


def train(run: Run, store: TileStore, figure: Figure, seed: int, rate: float) -> dict[str, Any]:
    """Train with some of the labels: the validation accuracy, and each test tile's class.

    The test tiles are classified here, once, and scored only if the learning rate is the chosen one.
    """
    recipe = run.recipe
    kind, _, share = figure.metric.partition("@")
    inputs = [plan.tiles(run)] if figure.arm == "supervised" else [_pretrained(run, figure.arm, seed)]
    everything = share == "all"
    settings = {
        "labels": share,
        "learning_rate": rate,
        "batch": recipe.compare.batch,
        "epochs": (recipe.compare.supervised_epochs or recipe.pretrain.epochs) if everything else None,
        "steps": None if everything else recipe.compare.finetune_steps,
        "handcrafted": recipe.pretrain.handcrafted.model_dump(mode="json"),
        "backbone": [recipe.pretrain.backbone, recipe.pretrain.stem, recipe.pretrain.crop_size],
        "seed": seed,
        "precision": recipe.hardware.precision,
    }
    name = f"{kind}/{figure.arm}-{seed}-{share}-{rate:g}"
    stage = run.stage(name, settings, inputs, REMEDY)
    if not stage.done:
        stage.begin()
        outcome = _train(run, store, figure, seed, rate, stage)
        write_json(stage.path / "predictions.json", outcome)
        stage.finish(valid=outcome["valid"])
        (stage.path / "last.ckpt").unlink(missing_ok=True)  # three times the weights, dozens of times
        console.say(f"{stage.name}: validation {percent(outcome['valid'])}")
    return cast(dict[str, Any], read_json(stage.path / "predictions.json"))


def _train(run: Run, store: TileStore, figure: Figure, seed: int, rate: float, stage: Stage) -> dict[str, Any]:
    recipe = run.recipe
    share = figure.metric.partition("@")[2]
    index = _train_tiles(store, share, seed)
    processes = recipe.hardware.devices
    batch = max(1, min(recipe.compare.batch, len(index)) // processes) * processes
    batches = Batches(index, batch, seed, store.read)
    epochs = recipe.compare.supervised_epochs or recipe.pretrain.epochs
    if share != "all":
        epochs = math.ceil(recipe.compare.finetune_steps / batches.steps_per_epoch)
    backbone, width = _backbone(run, store, figure.arm, seed)
    steps = epochs * batches.steps_per_epoch
    module = Classifier(backbone, width, store, recipe.pretrain, recipe.hardware, rate, steps, seed)
    module.evaluate_every = max(1, epochs // EVALUATIONS)
    fit(module, batches, stage, recipe.hardware, epochs, seed)
    valid, test = (labelled(store, split) for split in ("valid", "test"))
    return {
        "valid": accuracy(predict(module, store, valid, recipe.hardware), store.labels[valid]),
        "test": predict(module, store, test, recipe.hardware).tolist(),
    }


def _train_tiles(store: TileStore, share: str, seed: int) -> Int[Tensor, " m"]:
    """The training tiles whose labels may be used: of one seed the same for every arm."""
    tiles = labelled(store, "train")
    return tiles if share == "all" else tiles[subset(store.labels[tiles], float(share), seed)]


# ---------------------------------------------------------------- what a person reads


def show(scores: dict[str, Any]) -> None:
    """The scores as a table, and the verdict."""
    columns, arms = in_columns(scores["scores"])
    note = "Top-1 on test tiles in %, with 95 % intervals. A share of labels: fine-tuned, or supervised from scratch"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=note, caption_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(metric_title(column) if column in ("linear", "knn") else share_title(column), justify="right")
    for arm, cells in arms.items():
        table.add_row(title(arm), *(_cell(cells.get(column)) for column in columns))
    console.console.print(table)
    for text in scores["warnings"]:
        console.warn(text)
    for text in (scores["split"], scores["verdict"], scores["cause"]):
        console.say(text)


def _cell(score: dict[str, Any] | None) -> str:
    if score is None:
        return ""
    return f"{100 * score['mean']:.2f}\n[dim]{100 * score['low']:.1f}–{100 * score['high']:.1f}[/]"

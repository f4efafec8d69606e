"""Stages of a comparison: the probes of a frozen backbone or of a floor, and a training with a share of the labels.

What they are called, and what they depend on, is in ``scoring``, so that a report of what is done imports no network
and no engine of training.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from gcl_custom import console
from gcl_custom.counted import either, percent
from gcl_custom.evaluation import floors
from gcl_custom.evaluation.classifier import Classifier
from gcl_custom.evaluation.curves import Training
from gcl_custom.evaluation.inference import infer, labelled, predict
from gcl_custom.evaluation.scoring import MASKS_SHOWN, SHOWN_MASKS, of_few, train_tiles
from gcl_custom.evaluation.segmentation import maps
from gcl_custom.evaluation.segmentation.pixel_probe import Seen, probe_pixels
from gcl_custom.files import read_json, write_atomically, write_json
from gcl_custom.imagery.tile_store import TileStore, spread
from gcl_custom.measures.label_kinds import LAST_MAP, TOP_5
from gcl_custom.measures.pixel_features import PixelFeatures
from gcl_custom.measures.probes import Labelled, knn, linear_probe, probes_of_few
from gcl_custom.recipe.evaluation import EVALUATIONS, FEW_NEIGHBOURS
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.batches import Batches
from gcl_custom.training.loop import fit

BuildBackbone = Callable[[], tuple[nn.Module, int]]
"""Builds a backbone, ready to be scored or trained, and returns it with its width."""


def probe_floor(run: Run, store: TileStore, name: str) -> dict[str, Any]:
    """The probes of a floor, as those of a backbone."""
    stage = plan.floor(run, name, floors.SETTINGS[name])
    return probe(stage, store, run.recipe, lambda: floors.features(store, name, run.recipe.seed))


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
    few = of_few(recipe.compare, store.kind)
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
    for metric, draw in of_few(recipe.compare, kind).items():
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

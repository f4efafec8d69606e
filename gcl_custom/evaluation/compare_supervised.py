"""Stage: probes and fine-tuning of every pretrained backbone, the supervised baseline, and the verdict.

All arms of a seed see the same labels and the same validation and test tiles, so their scores are paired. Penalties
and learning rates are chosen on validation tiles; a learning rate is chosen once for each arm and label fraction, with
the first seed. Each probe and each training is a stage of its own, so an interrupted comparison resumes where it was.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from gcl_custom import console
from gcl_custom.evaluation import score_backbone, scoring
from gcl_custom.evaluation.curves import Training, kept_training
from gcl_custom.evaluation.figures import TITLES, Figure, share_name, title
from gcl_custom.evaluation.inference import blocks_of, labelled
from gcl_custom.evaluation.score_texts import of_draws, of_floors, over
from gcl_custom.evaluation.stage_warnings import of_stages
from gcl_custom.evaluation.verdict import summarise
from gcl_custom.files import read_json, write_json
from gcl_custom.imagery.splits import told
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import backbones, start, trained_backbone
from gcl_custom.randomness import derive
from gcl_custom.recipe.evaluation import Arm
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage


def compare_supervised(run: Run) -> None:
    """Write ``scores.json`` and show it.

    Raises:
        UserError: the tiles lack labels, or a pretraining is missing.
    """
    stage = plan.compare(run)
    if stage.done:
        console.say(f"compare: already done in {stage.path}")
        show(read_json(stage.path / "scores.json"))
        return
    scoring.require_labels(run)
    stage.begin()
    recipe = run.recipe.compare
    store = TileStore(plan.tiles(run).path)
    predictions: dict[Figure, list[Any]] = {}
    warnings: list[str] = []
    pretrained = arms.pretrained(run.recipe)
    metrics = scoring.probed_metrics(recipe, store.kind, len(store.classes))
    for arm in (*pretrained, *arms.beginnings(run.recipe)):
        for seed in recipe.seeds:
            probed = probe(run, store, arm, seed)
            for metric in metrics:
                predictions.setdefault(Figure(arm, metric), []).append(probed[metric])
            if not probed["converged"]:
                warnings.append(scoring.doubt(f"{arm}, seed {seed},"))
    for floor in store.kind.floors:
        probed = score_backbone.probe_floor(run, store, floor)
        predictions |= {Figure(floor, metric): [probed[metric]] for metric in metrics if metric in probed}
        if not probed["converged"]:
            warnings.append(scoring.doubt(TITLES[floor]))

    rates: dict[str, float] = {}
    trainings: dict[Figure, list[Training]] = {}
    shares = [share_name(fraction) for fraction in recipe.fractions]
    every_share = [*(share for share in shares if share != "all"), "all"]
    tuned = [Figure(arm, f"finetune@{share}") for arm in pretrained for share in shares]
    tuned += [Figure(arm, f"supervised@{s}") for arm in arms.with_labels(run.recipe) for s in every_share]
    for figure in tuned:
        rate = choose_rate(run, store, figure)
        rates[f"{figure.arm} {figure.metric}"] = rate
        outcomes = [train(run, store, figure, seed, rate) for seed in recipe.seeds]
        predictions[figure] = [outcome["test"] for outcome in outcomes]
        trainings[figure] = [kept_training(outcome) for outcome in outcomes]

    test = labelled(store, "test")
    scores = summarise(
        store.kind,
        {figure: np.array(rows) for figure, rows in predictions.items()},
        store.labels[test].numpy(),
        store.classes,
        recipe.seeds,
        trainings,
        blocks_of(store, test),
    )
    scores["labels"] = {share: len(scoring.train_tiles(store, share, recipe.seeds[0])) for share in every_share}
    scores["learning_rates"] = rates
    scores["split"] = told(run)
    scores["warnings"] = [*of_stages(plan.stages(run)[:-1]), *warnings]
    write_json(stage.path / "scores.json", scores)
    stage.finish(grounds=scores["grounds"], verdict=scores["verdict"], cause=scores["cause"])
    show(scores)


def probe(run: Run, store: TileStore, arm: str, seed: int) -> dict[str, Any]:
    """The probes of an arm or a floor."""
    recipe = run.recipe
    return score_backbone.probe(plan.probe(run, arm, seed), store, recipe, lambda: _backbone(run, store, arm, seed))


def choose_rate(run: Run, store: TileStore, figure: Figure) -> float:
    """The learning rate with the best validation score of the first seed; the lowest in a tie."""
    recipe = run.recipe.compare
    return scoring.best_rate(
        recipe.learning_rates, lambda rate: train(run, store, figure, recipe.seeds[0], rate)["valid"]
    )


def train(run: Run, store: TileStore, figure: Figure, seed: int, rate: float) -> dict[str, Any]:
    """Train with some of the labels: the validation score, and what the classifier says of each test tile."""
    stage, share = scoring.training_stage(run, figure, seed, rate), figure.metric.partition("@")[2]
    return score_backbone.train(
        stage, store, run.recipe, lambda: _backbone(run, store, figure.arm, seed), share, seed, rate
    )


def _pretrained(run: Run, arm: str, seed: int) -> Stage:
    return plan.pretrain(run, cast(Arm, arm), seed)


def _backbone(run: Run, store: TileStore, arm: str, seed: int) -> tuple[nn.Module, int]:
    """Backbone and width of an arm.

    ``untrained`` and ``scratch`` have the random weights of the seed. ``public`` and ``supervised`` have those that
    pretraining begins with, which are the same random ones where there is no start.
    """
    settings = run.recipe.pretrain
    torch.manual_seed(derive(seed, "pretrain", "initial weights"))
    if arm in ("public", "supervised"):
        return start.begun(settings, store)
    if arm in ("untrained", "scratch"):
        return backbones.untrained(settings.backbone, store, settings.stem)
    return trained_backbone.network_of(run, _pretrained(run, arm, seed), store.bands)


def show(scores: dict[str, Any]) -> None:
    """The scores as a table, what pretraining has learned, and the verdict."""
    note = (
        f"{scoring.caption(scores['measure'])} The intervals are {over(scores)}. {of_draws(scores)} "
        f"A share of labels: fine-tuned, or supervised without pretraining. "
        f"{of_floors(scores)}"
    )
    titles = {arm: title(arm) for arm in scores["scores"]}
    console.console.print(scoring.tables(scores["scores"], titles, note, scores["test_tiles"], console.console.width))
    console.say(scores["split"])
    for text in scores["warnings"]:
        console.warn(text)
    for text in (*scores["grounds"], scores["verdict"], scores["cause"], scores["seeds_show"]):
        if text:
            console.say(text)

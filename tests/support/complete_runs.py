"""Run folders as finished stages would leave them, with drawn-up figures and names that a page has to escape."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gcl_custom.evaluation.curves import Training
from gcl_custom.evaluation.figures import Figure
from gcl_custom.evaluation.stage_warnings import of_stages
from gcl_custom.evaluation.verdict import summarise
from gcl_custom.files import read_json, write_json
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.pictures import save_picture
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

CLASSES = ["forest", "lake & river", "<script>alert(1)</script>"]
SKILL = {"gcl": 0.90, "handcrafted": 0.84, "reconstructed": 0.86, "paired": 0.85, "untrained": 0.5}
SEEDS = [0, 1, 2]


def made(tmp_path: Path, **changes: Any) -> Run:
    values = {"name": "trial", "data": {"root": "data/<b>tiles</b>", "size": 64}, **changes}
    return Run(tmp_path / "trial", check_values(Recipe, values, "test"))


def finish(stage: Stage, seconds: float = 60.0, **facts: Any) -> None:
    stage.begin()
    write_json(stage.path / "working.json", read_json(stage.path / "working.json") | {"seconds": seconds})
    stage.finish(**facts)


def predictions(labels: np.ndarray) -> dict[Figure, np.ndarray]:
    rng = np.random.default_rng(0)

    def guess(skill: float) -> np.ndarray:
        wrong = rng.random((len(SEEDS), len(labels))) > skill
        return np.where(wrong, (labels + 1 + (rng.random(wrong.shape) < 0.3)) % len(CLASSES), labels)

    figures = {Figure(arm, metric): guess(skill) for arm, skill in SKILL.items() for metric in ("linear", "knn")}
    for share, less in (("0.01", 0.25), ("0.1", 0.1)):
        figures |= {Figure(arm, f"finetune@{share}"): guess(SKILL[arm] - less) for arm in list(SKILL)[:4]}
        figures[Figure("supervised", f"supervised@{share}")] = guess(0.8 - 1.3 * less)
    figures[Figure("supervised", "supervised@all")] = guess(0.89)
    return figures


def scores() -> dict[str, Any]:
    labels = np.arange(1500) % len(CLASSES)
    said = predictions(labels)
    training = Training(valid=0.9, steps=40, most_steps=40, curve=[(10, 0.8), (20, 0.9), (40, 0.9)], valid_tiles=400)
    trained = {figure: [training] * len(SEEDS) for figure in said if "@" in figure.metric}
    made = summarise(SINGLE_LABEL, said, labels, CLASSES, SEEDS, trained)
    made["labels"] = {"0.01": 45, "0.1": 450, "all": 4500}
    made["split"] = "The split is the one that the folders give."
    return made | {"warnings": ["The probe of <i>gcl</i> did not converge."], "learning_rates": {}}


def complete(run: Run) -> Run:
    """A run folder as finished stages would leave it, with drawn-up figures."""
    rng = np.random.default_rng(1)
    finish(plan.tiles(run), 4, tiles={"train": 4500}, bands=3, split="random", content="abcdef", unusable=7)
    for stage, seconds in ((plan.tokenizer(run), 900), (plan.tokens(run), 30), (plan.maskgit(run), 1500)):
        finish(stage, seconds, psnr=29.64321, warnings=["Only 12 % of the codes are used."])
        history = [
            {"epoch": e, "loss": 3 / e + 0.1 * rng.random(), "used codes": 1 - 1 / e}
            | ({"psnr": 20 + e} if e % 2 else {})
            for e in range(1, 21)
        ]
        write_json(stage.path / "history.json", history)
    (run.path / "tokenizer" / "pictures").mkdir()
    for epoch in (2, 10):
        picture = torch.rand(3, 2 * 66, 8 * 66, generator=torch.Generator().manual_seed(epoch))
        save_picture(run.path / "tokenizer" / "pictures" / f"reconstructions-{epoch:05d}.png", picture)
    finish(plan.views(run), 240)
    save_picture(run.path / "views" / "views.png", torch.rand(3, 3 * 66, 8 * 66))
    if arms.needs_reconstructions(run.recipe):
        finish(plan.reconstructions(run), 60)
    for arm, seed in arms.pretrainings(run.recipe):
        stage = plan.pretrain(run, arm, seed)
        finish(stage, 600, embedding_std=0.001 if (arm, seed) == ("paired", 2) else 0.7, effective_rank=40.0)
        rows = [{"epoch": e, "loss": 25 / e + rng.random(), "rank": 10.0 * e} for e in range(1, 13)]
        write_json(stage.path / "history.json", rows)
        finish(run.stage(f"probes/{arm}-{seed}", {}), 20)
    finish(run.stage("finetune/gcl-0-0.01-0.001", {}), 200)
    comparison = plan.compare(run)
    comparison.begin()
    found = scores()
    found["warnings"] += of_stages(plan.stages(run)[:-1])
    write_json(comparison.path / "scores.json", found)
    comparison.finish()
    return run

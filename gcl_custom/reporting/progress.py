"""How far a run has come: what it waits for, and what there is of a comparison before its verdict."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any, Literal, NamedTuple

from gcl_custom.errors import UserError
from gcl_custom.evaluation import scoring
from gcl_custom.evaluation.so_far import figures_trained, probe_stages, training_stages
from gcl_custom.imagery.tile_store import INDEX
from gcl_custom.measures.label_kinds import kind_scored_by
from gcl_custom.reporting import score_tables
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

Aim = Literal["comparison", "pretraining", "evaluation"]


class Awaited(NamedTuple):
    """What a run is for, and the stages that belong to it.

    A run without labels ends with the pretraining. One in which only given backbones were scored has tiles alone.
    """

    aim: Aim
    stages: list[Stage]
    why: str = ""
    """Why these tiles cannot be compared on, if they cannot."""


def awaited(run: Run) -> Awaited:
    """What this run is for, as far as its folder shows it."""
    stages = plan.stages(run)
    tiles, later = stages[0], stages[1:]
    if (run.path / "evaluate" / "scores.json").is_file() and all(state(stage) == "missing" for stage in later):
        return Awaited("evaluation", [tiles])
    if tiles.done and (tiles.path / INDEX).is_file():
        try:
            scoring.require_labels(run)
        except UserError as error:
            own = plan.pretrain(run, "gcl", run.recipe.compare.seeds[0]).name
            others = {plan.pretrain(run, arm, seed).name for arm, seed in arms.pretrainings(run.recipe)} - {own}
            return Awaited("pretraining", [s for s in stages if s.name not in {*others, "compare"}], str(error))
    return Awaited("comparison", stages)


def state(stage: Stage) -> str:
    """done, unfinished, outdated (made from other settings or inputs), or missing."""
    if stage.done:
        return "done"
    if (stage.path / "stage.json").is_file():
        return "outdated"
    return "unfinished" if (stage.path / "working.json").is_file() else "missing"


def lacking(stages: Sequence[Stage]) -> list[str]:
    """What is not done, in words; pretrainings of one state are counted."""
    states = {stage.name: state(stage) for stage in stages}
    pretrainings = Counter(found for name, found in states.items() if name.startswith("pretrain/"))
    lines: dict[str, None] = {}
    for name, found in states.items():
        if found == "done":
            continue
        count = pretrainings[found] if name.startswith("pretrain/") else 1
        line = f"{count} of {pretrainings.total()} pretrainings are {found}" if count > 1 else f"{name} is {found}"
        lines[line] = None
    return list(lines)


def card(run: Run, found: Awaited) -> str:
    """What stands in place of a verdict."""
    if found.aim == "evaluation":
        sentence, rest = "Given backbones were scored on these tiles.", "Nothing was pretrained here. See below."
    elif found.aim == "pretraining":
        pretrained = found.stages[-1].done
        sentence = "A backbone was pretrained without labels." if pretrained else "There is no backbone yet."
        rest = found.why if pretrained else f"It needs: gcl-custom run {run.options}"
    else:
        sentence, rest = "There is no verdict yet.", f"It needs a finished comparison: {_next(run, found)}"
    return f'<div class="card verdict"><p class="sentence">{escape(sentence)}</p><p>{escape(rest)}</p></div>'


def _next(run: Run, found: Awaited) -> str:
    """The command that finishes the comparison. It makes no generator, which ``run`` does."""
    made = plan.awaited(run)[1:]  # packing is a part of every command
    verb = "compare-supervised" if all(stage.done for stage in made) else "run"
    outdated = any(state(stage) == "outdated" for stage in found.stages)
    return f"gcl-custom {verb} {run.options}{' --redo' * outdated}"


def scores_so_far(run: Run, scores: dict[str, Any] | None) -> str:
    """The scores of an unfinished comparison, and how much of it is done."""
    if scores is None:
        return ""
    compare, probes, trainings = (
        run.recipe.compare,
        probe_stages(run, kind_scored_by(scores["measure"])),
        training_stages(run),
    )
    probed, trained = sum(stage.done for *_, stage in probes), sum(stage.done for *_, stage in trainings)
    needed = len(figures_trained(compare)) * (len(compare.seeds) + len(compare.learning_rates) - 1)
    return (
        f"<p>{probed} of {len(probes)} probes and {trained} of {needed} trainings with labels are done. A score is "
        f"of the seeds that are done. Nothing is compared before all are.</p>{score_tables.table(scores)}"
    )

"""Stage: everything that a run's stages wrote -> one self-contained HTML page, whether the run is finished or not."""

import base64
import os
import platform
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import torch

from gcl_custom import __version__
from gcl_custom.console import duration
from gcl_custom.evaluation.verdict import TITLES
from gcl_custom.files import read_json, write_atomically
from gcl_custom.measures import collapse
from gcl_custom.recipe.file import dump_recipe, load_card
from gcl_custom.reporting import score_tables
from gcl_custom.reporting.plots import LOOKS, Line, curves
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training import devices
from gcl_custom.views import cost_benefit_table

LIBRARIES = (
    *("torch", "torchvision", "lightning", "timm", "numpy", "scipy", "rasterio", "einops", "pydantic"),
    *("safetensors", "matplotlib"),
)
PICTURES = {
    "reconstructions": "validation tiles, and below them what the tokenizer makes of them",
    "views": "from above: tiles, their reconstructions, the hidden squares in grey, the generative views",
    "edits": "training tiles, below them what they become when encoded and decoded only, and below that edited",
    "pairs": "positive pairs: the first view above the second",
}
"""Name of a picture -> what it shows."""
WITHOUT_MASKS = {"views": "from above: tiles, their reconstructions where there are any, the generative views"}
DIGESTS = ("content", "listing")
"""Facts that are compared, not read."""
FIGURES = {
    "tokenizer": "quantizer: distance between features and codes. l1, perceptual: parts of the reconstruction loss. "
    "discriminator, generator: adversarial losses; trust, adaptive weight: how far they count. psnr (dB), ssim: "
    "likeness of validation tiles and reconstructions, higher is better; feature distance: lower is better. codes "
    "used: share of the codebook. perplexity: number of codes in use, as if all were used equally often.",
    "maskgit": "masked token loss: nats for each hidden token of the validation tiles. gap: how far this lies below "
    "the marginal entropy, that is, what the frequencies of the codes alone would give; at 0 or below, nothing was "
    "learnt from the tokens around.",
    "pretrain": "embedding std and effective rank: signs of collapse, near 0 and near 1. lidar: number of directions "
    "that tell tiles apart. knn: score of the nearest neighbours on validation tiles. The others are the method's loss "
    "and its parts.",
}
"""What the curves of a stage show."""
CURVES = 12
"""The most curves that are drawn of one stage."""


class Part(NamedTuple):
    """A section of the page, left out if its body is empty."""

    anchor: str
    title: str
    body: str


def report(run: Run) -> Path:
    """Write ``report.html`` anew into the run's folder and return its path."""
    path = run.path / "report.html"
    with write_atomically(path) as part:
        part.write_text(page(run), encoding="utf-8")
    return path


def page(run: Run) -> str:
    """The whole page. It refers to no file or address outside itself, and every text from the run is escaped."""
    stages = plan.stages(run)
    comparison = plan.compare(run)
    scores: dict[str, Any] | None = read_json(comparison.path / "scores.json") if comparison.done else None
    parts = [
        Part("scores", "Scores", score_tables.table(scores)),
        Part("answers", "The questions, answered", score_tables.answers(scores)),
        Part("confusion", "Which classes are confused", score_tables.confusions(scores)),
        Part("evaluate", "Given backbones, scored on these tiles", _evaluated(run)),
        Part("pictures", "What the networks see and make", _pictures(run)),
        Part("cost-benefit", "What each augmentation costs and changes", _cost_benefit(run)),
        Part("training", "Training", _training(run, stages)),
        Part("cost", "What it cost", _costs(run, stages)),
        Part("record", "Recipe and machine", _record(run)),
    ]
    parts = [part for part in parts if part.body]
    links = "".join(f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part in parts)
    sections = "".join(
        f'<section id="{part.anchor}"><h2>{escape(part.title)}</h2>{part.body}</section>\n' for part in parts
    )
    data = run.recipe.data
    head = (
        f"<header><p>Generative contrastive learning · gcl-custom {escape(__version__)}</p>"
        f"<h1>{escape(run.recipe.name)}</h1>"
        f"<p>{escape(data.root)} · tiles of {data.size} × {data.size} px · {escape(run.recipe.pretrain.backbone)}</p>"
        f"</header>{_notices(run, stages, scores)}{score_tables.verdict(scores)}<nav>{links}</nav>"
    )
    template = resources.files("gcl_custom.reporting").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(f"{run.recipe.name} – gcl-custom"), body=head + sections)


def state(stage: Stage) -> str:
    """done, unfinished, outdated (made from other settings or inputs), or missing."""
    if stage.done:
        return "done"
    if (stage.path / "stage.json").is_file():
        return "outdated"
    return "unfinished" if (stage.path / "working.json").is_file() else "missing"


# ---------------------------------------------------------------- the top of the page


def _notices(run: Run, stages: Sequence[Stage], scores: dict[str, Any] | None) -> str:
    notices = []
    if run.recipe.data.synthetic is not None:
        notices.append(
            "<p><strong>The imagery is synthetic.</strong> These tiles were drawn by a program, to try the software. "
            "Nothing on this page says anything about real imagery.</p>"
        )
    lacking = [f"{stage.name} is {state(stage)}" for stage in stages if state(stage) != "done"]
    if lacking:
        notices.append(
            f"<p><strong>This run is not finished.</strong> {escape('; '.join(lacking))}. "
            "The page shows what there is so far.</p>"
        )
    warnings = _warnings(stages) + (scores or {}).get("warnings", [])
    if warnings:
        items = "".join(f"<li>{escape(text)}</li>" for text in dict.fromkeys(warnings))
        notices.append(f"<p><strong>Warnings</strong></p><ul>{items}</ul>")
    return "".join(f'<div class="notice">{notice}</div>' for notice in notices)


def _warnings(stages: Sequence[Stage]) -> list[str]:
    """The warnings of finished stages, and those that follow from their facts."""
    found = []
    for stage in stages:
        facts = stage.facts if state(stage) == "done" else {}
        found += [f"{stage.name}: {text}" for text in facts.get("warnings", [])]
        if facts.get("unusable"):
            found.append(f"{facts['unusable']} files could not be used; {stage.path / 'unusable.txt'} says why.")
        if facts.get("duplicates_across_splits"):
            found.append(
                f"{facts['duplicates_across_splits']} tiles are copies of one another in different splits: "
                "scores on them say too much."
            )
        if "embedding_std" in facts and "effective_rank" in facts:
            collapsing = collapse.warning(facts["embedding_std"], facts["effective_rank"])
            found += [f"{stage.name}: {collapsing}"] if collapsing else []
    return found


# ---------------------------------------------------------------- what the stages left


def _pictures(run: Run) -> str:
    """The latest picture of each name in a stage, embedded."""
    figures, shown = "", PICTURES if run.recipe.inpaints else PICTURES | WITHOUT_MASKS
    for folder in ("tokenizer", "maskgit", "edit", "views", f"pretrain/gcl-{run.recipe.compare.seeds[0]}"):
        latest: dict[str, tuple[int, Path]] = {}
        for path in sorted((run.path / folder).rglob("*.png")):
            name, epoch = re.fullmatch(r"(.+?)(?:-(\d+))?", path.stem).groups()  # type: ignore[union-attr]
            latest[name] = max(latest.get(name, (-1, path)), (int(epoch or 0), path))
        for name, (epoch, path) in latest.items():
            what = shown.get(name, re.sub(r"[-_]", " ", name)) + (f"; epoch {epoch}" if epoch else "")
            figures += _embedded(path, folder, what)
    return f'<div class="pictures">{figures}</div>' if figures else ""


def _embedded(path: Path, source: str, what: str) -> str:
    picture = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure class="card"><img alt="{escape(f"{source}: {what}")}" src="data:image/png;base64,{picture}">'
        f"<figcaption><strong>{escape(source)}</strong>: {escape(what)}</figcaption></figure>"
    )


def _evaluated(run: Run) -> str:
    """The scores of ``evaluate``, if it was run on the present tiles."""
    path = run.path / "evaluate" / "scores.json"
    if not path.is_file():
        return ""
    scores, tiles = read_json(path), plan.tiles(run).output
    if scores["tiles"] != tiles:
        return '<p class="soft">These scores are of other tiles. Run: gcl-custom evaluate --backbone NAME=SPEC</p>'
    warnings = "".join(f"<li>{escape(text)}</li>" for text in scores["warnings"])
    notice = f'<div class="notice"><ul>{warnings}</ul></div>' if warnings else ""
    return notice + score_tables.evaluated(scores)


def _cost_benefit(run: Run) -> str:
    """The table of augmentations, if it was made, for the number of tiles it was made with."""
    record = run.path / "cost_benefit" / "stage.json"
    if not record.is_file():
        return ""
    stage = plan.cost_benefit(run, read_json(record)["settings"]["tiles"])
    if not stage.done:
        return '<p class="soft">The table was made from other settings. Run: gcl-custom cost-benefit --redo</p>'
    results = read_json(stage.path / "results.json")
    columns, rows = cost_benefit_table.table(results)
    head = f"<th>{escape(columns[0])}</th>" + "".join(f'<th class="number">{escape(name)}</th>' for name in columns[1:])
    body = ""
    for name, *cells in rows:
        numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
        body += f'<tr><th scope="row">{escape(name)}</th>{numbers}</tr>'
    names = ", ".join(found["name"] for found in results["augmentations"])
    return (
        f'<div class="card"><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="note">{escape(cost_benefit_table.note(results))}</p></div>'
        + _embedded(stage.path / "augmentations.png", "cost_benefit", f"from above: tiles, {names}")
    )


def _training(run: Run, stages: Sequence[Stage]) -> str:
    body = ""
    groups = {"tokenizer": ["tokenizer"], "maskgit": ["maskgit"]}
    groups["pretrain"] = [stage.name for stage in stages if stage.name.startswith("pretrain/")]
    for group, names in groups.items():
        figures: dict[str, list[Line]] = {}
        for name in names:
            history = run.path / name / "history.json"
            rows: list[dict[str, float]] = read_json(history) if history.is_file() else []
            arm = name.removeprefix("pretrain/").rpartition("-")[0]
            for figure in dict.fromkeys(key for row in rows for key in row if key not in ("epoch", "step")):
                kept = [(row["epoch"], row[figure]) for row in rows if figure in row]
                figures.setdefault(figure, []).append(Line(name, arm, *zip(*kept, strict=True)))
        if figures:
            drawn = list(figures.items())[:CURVES]
            plots = "".join(f'<figure class="card">{curves(figure, lines)}</figure>' for figure, lines in drawn)
            meaning = f'<p class="soft">{FIGURES[group]}</p>'
            body += f'<h3>{escape(group)}</h3>{_legend(names)}{meaning}<div class="curves">{plots}</div>'
    return body


def _legend(names: Sequence[str]) -> str:
    arms = list(dict.fromkeys(name.removeprefix("pretrain/").rpartition("-")[0] for name in names))
    keys = [f'<span style="color:{LOOKS[arm][0]}">━</span> {escape(TITLES[arm])}' for arm in arms if arm in LOOKS]
    return f'<p class="soft">{"&emsp;".join(keys)}; a line for each seed</p>' if keys else ""


def _costs(run: Run, stages: Sequence[Stage]) -> str:
    rows: list[tuple[str, str, float, str]] = [
        (stage.name, state(stage), stage.seconds, _facts(stage)) for stage in stages if stage.name != "compare"
    ]
    compared = state(stages[-1])
    for kind in ("probes", "finetune", "supervised"):
        records = [read_json(path) for path in _records(run.path / kind)]
        if records:
            finished = sum("facts" in record for record in records)
            rows.append(
                (kind, compared, sum(record["seconds"] for record in records), f"{finished} of {len(records)} done")
            )
    whole = sum(seconds for _, _, seconds, _ in rows)
    if not whole:
        return ""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><span class="badge {status}">{status}</span></td>'
        f'<td class="number">{escape(duration(seconds))}</td><td class="number">{100 * seconds / whole:.1f} %</td>'
        f'<td><span class="bar"><span style="width:{100 * seconds / whole:.2f}%"></span></span></td>'
        f'<td class="soft">{escape(facts)}</td></tr>'
        for name, status, seconds, facts in rows
    )
    head = (
        '<th>Stage</th><th>State</th><th class="number">Time</th><th class="number">Share</th><th></th><th>Outcome</th>'
    )
    return (
        f'<div class="card"><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="note">Together {escape(duration(whole))} of computing, over all sessions.</p></div>'
    )


def _records(folder: Path) -> Iterable[Path]:
    """The record of each stage below a folder, finished or begun."""
    for inner in sorted(folder.glob("*")):
        yield from [path for name in ("stage.json", "working.json") if (path := inner / name).is_file()][:1]


def _facts(stage: Stage) -> str:
    if state(stage) != "done":
        return ""
    return ", ".join(
        f"{key.replace('_', ' ')} {_figure(value)}"
        for key, value in stage.facts.items()
        if isinstance(value, int | float | str) and key not in DIGESTS
    )


def _figure(value: int | float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _record(run: Run) -> str:
    about = {
        "Processor": devices.processor(),
        "Cores": f"{os.cpu_count()}",
        "Accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "System": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "Libraries": ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES),
    }
    if run.recipe.data.card:
        card = load_card(run.recipe.data.card)
        about |= {"Data": f"{card.title}. {card.notes}", "Source": card.source, "Licence": card.licence}
    pairs = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in about.items())
    recipe = escape(dump_recipe(run.recipe))
    return (
        f'<p class="soft">The machine and the libraries that made this page.</p><dl class="card">{pairs}</dl>'
        f"<h3>Recipe, with every default</h3>"
        f'<details class="card"><summary>recipe.yaml</summary><pre>{recipe}</pre></details>'
    )

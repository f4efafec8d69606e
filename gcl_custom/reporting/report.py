"""Stage: everything that a run's stages wrote -> one self-contained HTML page, whether the run is finished or not."""

import os
import platform
import re
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import torch

from gcl_custom import __version__, console
from gcl_custom.console import duration
from gcl_custom.errors import UserError
from gcl_custom.evaluation import neighbours
from gcl_custom.evaluation.so_far import so_far
from gcl_custom.evaluation.stage_warnings import of_stages
from gcl_custom.files import read_json, write_text
from gcl_custom.recipe.file import card_of, dump_recipe
from gcl_custom.reporting import bands_seen, examples, html, progress, score_tables, split_map
from gcl_custom.reporting.html import Cell
from gcl_custom.reporting.plots import Line, curves
from gcl_custom.reporting.progress import state
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training import devices
from gcl_custom.views import cost_benefit_table

LIBRARIES = (
    *("torch", "torchvision", "lightning-fabric", "timm", "numpy", "scipy", "rasterio", "einops", "pydantic"),
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
    try:
        neighbours.find(run)
    except UserError as error:  # the page needs no neighbours
        console.warn(str(error))
    path = run.path / "report.html"
    write_text(path, page(run))
    return path


def page(run: Run) -> str:
    """The whole page. It refers to no file or address outside itself, and every text from the run is escaped."""
    awaited = progress.awaited(run)
    comparison = plan.compare(run)
    scores: dict[str, Any] | None = read_json(comparison.path / "scores.json") if comparison.done else None
    partial = so_far(run) if scores is None else None
    parts = [
        Part("scores", "Scores", score_tables.table(scores) if scores else ""),
        Part("so-far", "Scores so far", progress.scores_so_far(run, partial)),
        Part("baseline", "Trained long enough?", score_tables.trainings(scores) if scores else ""),
        Part("answers", "The questions, answered", score_tables.answers(scores) if scores else ""),
        Part("confusion", "Which classes are confused", score_tables.confusions(scores) if scores else ""),
        Part("examples", "What is confused, and what is alike", examples.examples(run)),
        Part("evaluate", "Given backbones, scored on these tiles", _evaluated(run)),
        Part("splits", "How the tiles are divided", split_map.section(run)),
        Part("use", "Use the backbone", _use(run)),
        Part("pictures", "What the networks see and make", _pictures(run)),
        Part("cost-benefit", "What each augmentation costs and changes", _cost_benefit(run)),
        Part("training", "Training", _training(run, awaited.stages)),
        Part("cost", "What it cost", _costs(run, awaited.stages)),
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
        f"</header>{_notices(run, awaited, scores)}"
        f"{score_tables.verdict(scores) if scores else progress.card(run, awaited)}<nav>{links}</nav>"
    )
    template = resources.files("gcl_custom.reporting").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(f"{run.recipe.name} – gcl-custom"), body=head + sections)


# ---------------------------------------------------------------- the top of the page


def _notices(run: Run, awaited: progress.Awaited, scores: dict[str, Any] | None) -> str:
    notices = []
    if run.recipe.data.synthetic is not None:
        notices.append(
            "<p><strong>The imagery is synthetic.</strong> These tiles were drawn by a program, to try the software. "
            "Nothing on this page says anything about real imagery.</p>"
        )
    if lacking := progress.lacking(awaited.stages):
        notices.append(
            f"<p><strong>This run is not finished.</strong> {escape('; '.join(lacking))}. "
            "The page shows what there is so far.</p>"
        )
    if not scores and (warnings := of_stages(awaited.stages)):  # else they stand above the verdict
        items = "".join(f"<li>{escape(text)}</li>" for text in dict.fromkeys(warnings))
        notices.append(f"<p><strong>Warnings</strong></p><ul>{items}</ul>")
    return "".join(f'<div class="notice">{notice}</div>' for notice in notices)


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
    bands = bands_seen.shown(run) if figures else ""
    note = f'<p class="soft">{escape(bands)}</p>' if bands else ""
    return f'{note}<div class="pictures">{figures}</div>' if figures else ""


def _embedded(path: Path, source: str, what: str) -> str:
    return (
        f'<figure class="card">{html.picture(path.read_bytes(), f"{source}: {what}")}'
        f"<figcaption><strong>{escape(source)}</strong>: {escape(what)}</figcaption></figure>"
    )


def _use(run: Run) -> str:
    """How to load the backbone, once there is one."""
    if not plan.pretrain(run, "gcl", run.recipe.compare.seeds[0]).done:
        return ""
    code = (
        f"import gcl_custom\n\n"
        f"# A timm module, and what makes its input of a file.\n"
        f"network, transform = gcl_custom.load({str(run.path)!r})\n"
        f'representation = network(transform("tile.tif")[None])'
    )
    command = f"gcl-custom embed FOLDER --out representations.parquet {run.options}"
    return (
        f'<p>In Python, from the folder in which the commands were typed:</p><pre class="card">{escape(code)}</pre>'
        f'<p>For a folder of images:</p><pre class="card">{escape(command)}</pre>'
        f"<p>For timm, ONNX, Hugging Face and others: gcl-custom export.</p>"
    )


def _evaluated(run: Run) -> str:
    """The scores of ``evaluate``, if it was run on the present tiles."""
    path = run.path / "evaluate" / "scores.json"
    if not path.is_file():
        return ""
    scores, tiles = read_json(path), plan.tiles(run).output
    if scores["tiles"] != tiles:
        given = shlex.join(f"--backbone={name}={about['spec']}" for name, about in scores["backbones"].items())
        command = f"gcl-custom evaluate {given} {run.options}"
        return f'<p class="soft">These scores are of other tiles. Run: {escape(command)}</p>'
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
        command = f"gcl-custom cost-benefit --redo {run.options}"
        return f'<p class="soft">The table was made from other settings. Run: {escape(command)}</p>'
    results = read_json(stage.path / "results.json")
    columns, found = cost_benefit_table.table(results)
    rows = [(name, [html.text(cell, number=True) for cell in cells]) for name, *cells in found]
    names = ", ".join(found["name"] for found in results["augmentations"])
    return (
        f'<div class="card">{html.table(columns, rows, [True] * (len(columns) - 1))}'
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
            seen = f" {bands_seen.perceptual(run)}" if group == "tokenizer" else ""
            meaning = f'<p class="soft">{FIGURES[group]}{escape(seen)}</p>'
            arms = dict.fromkeys(name.removeprefix("pretrain/").rpartition("-")[0] for name in names)
            folded = f"{len(drawn)} curves" if len(drawn) > 1 else "The curve"
            body += (
                f"<h3>{escape(group)}</h3><details><summary>{folded}</summary>"
                f'{score_tables.arms_in_colours(arms)}{meaning}<div class="curves">{plots}</div></details>'
            )
    return body


def _costs(run: Run, stages: Sequence[Stage]) -> str:
    found: list[tuple[str, str, float, str]] = [
        (stage.name, state(stage), stage.seconds, _facts(stage)) for stage in stages if stage.name != "compare"
    ]
    for kind in ("probes", "finetune", "supervised"):
        records = [read_json(path) for path in _records(run.path / kind)]
        if records:
            finished = sum("facts" in record for record in records)
            seconds = sum(record["seconds"] for record in records)
            status = state(stages[-1]) if stages[-1].name == "compare" else "unfinished"
            found.append((kind, status, seconds, f"{finished} of {len(records)} done"))
    whole = sum(seconds for _, _, seconds, _ in found)
    if not whole:
        return ""
    rows = []
    for name, status, seconds, facts in found:
        share = 100 * seconds / whole
        badge = f'<span class="badge {status}">{status}</span>'
        bar = f'<span class="bar"><span style="width:{share:.2f}%"></span></span>'
        figures = [html.text(duration(seconds), number=True), html.text(f"{share:.1f} %", number=True)]
        rows.append((name, [Cell(badge), *figures, Cell(bar), html.text(facts)]))
    columns = ["Stage", "State", "Time", "Share", "", "Outcome"]
    return (
        f'<div class="card">{html.table(columns, rows, [False, True, True, False, False])}'
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
    if card := card_of(run.recipe.data):
        about |= {"Data": f"{card.title}. {card.notes}", "Source": card.source, "Licence": card.licence}
    pairs = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in about.items())
    recipe = escape(dump_recipe(run.recipe))
    return (
        f'<p class="soft">The machine and the libraries that made this page.</p><dl class="card">{pairs}</dl>'
        f"<h3>Recipe, with every default</h3>"
        f'<details class="card"><summary>recipe.yaml</summary><pre>{recipe}</pre></details>'
    )

"""Results from finished runs, kept as JSON beside this file, and the tables that the pages show of them.

    python docs/results/tables.py collect runs/eurosat-small --command "gcl-custom run eurosat-small" --commit 8a1734e
    python docs/results/tables.py render

``collect`` writes NAME.json, with what the run's ``scores.json`` says and what it takes to repeat it. It is called on
the machine and in the environment of the run, since processor, precision and versions are taken from there. ``render``
writes the tables between ``<!-- results -->`` and ``<!-- /results -->`` of docs/results.md and README.md; a test fails
where a page has others. NAME.json may also have ``then``: in which way the run was another than its command is today.
"""

import argparse
import json
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from gcl_custom.evaluation.figures import OF_DRAWS, column_title, in_columns, title
from gcl_custom.evaluation.score_texts import above, interval_text, mean_text, over
from gcl_custom.recipe.file import load_card
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training.devices import pick_device, processor, uses_bf16

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric")
BETWEEN = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)
LEFT_OUT = ("linear_top5",)
"""Columns that stand in the JSON alone."""
IN_README = {"linear": "linear probe", "knn": "kNN", "shots@1": "1 label a class"}
"""Columns of the table in the README, and their heads."""
OF_README = {"public": "public weights, frozen", "gcl": "continued on the tiles"}
"""Arms of the table in the README, where a public start was continued."""

Kept = dict[str, Any]
"""The content of a kept JSON file."""


def collect(run: Path, command: str, commit: str) -> Path:
    """Keep the results of a finished comparison."""
    # Not by the grammar: the run may be of an earlier version, with other keys.
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    hardware = HardwareSettings(**{key: recipe["hardware"][key] for key in ("precision", "accelerator")})
    del recipe["data"]["root"]  # where one machine has its imagery
    records = {path.parent.relative_to(run).as_posix(): _read(path) for path in sorted(run.rglob("stage.json"))}
    card = load_card(recipe["data"]["card"]) if recipe["data"]["card"] else None
    finished = datetime.fromtimestamp(records["compare"]["counted_to"], UTC)
    kept = {
        "name": recipe["name"],
        "data": card.title if card else recipe["name"],
        "notes": card.notes if card else "",
        "command": command,
        "commit": commit,
        "date": finished.date().isoformat(),
        "processor": processor(),
        "precision": "bf16" if uses_bf16(hardware, pick_device(hardware)) else "fp32",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "seconds": {name: round(record["seconds"], 1) for name, record in records.items()},
        "generator": {name: records[name]["facts"] for name in ("tokenizer", "maskgit") if name in records},
        "recipe": recipe,
        "scores": _read(run / "compare" / "scores.json"),
    }
    path = HERE / f"{kept['name']}.json"
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def kept_results() -> list[Kept]:
    """What was collected, real imagery first."""
    results = [_read(path) for path in HERE.glob("*.json")]
    return sorted(results, key=lambda kept: (kept["recipe"]["data"]["synthetic"] is not None, kept["name"]))


# ---------------------------------------------------------------- Markdown


def for_page(results: Sequence[Kept]) -> str:
    """All of them, each with its table, verdict, comparisons, and how it was made."""
    return "\n".join(_section(kept) for kept in results)


def for_readme(results: Sequence[Kept]) -> str:
    """One table of what continuing a public backbone gave: for each data set the start, and what became of it."""
    rows = []
    for kept in results:
        if kept["recipe"]["data"]["synthetic"] is None and "public" in kept["scores"]["scores"]:
            cells, tiles = in_columns(kept["scores"]["scores"])[1], kept["scores"]["test_tiles"]
            for arm, name in OF_README.items():
                rows.append([kept["data"], name, *(_cell(cells[arm].get(column), tiles) for column in IN_README)])
    return _markdown(["tiles", "backbone", *IN_README.values()], rows)


def _section(kept: Kept) -> str:
    scores, recipe = kept["scores"], kept["recipe"]
    columns, table = in_columns(scores["scores"])
    columns = [column for column in columns if column not in LEFT_OUT]
    shown = _markdown(
        ["arm", *map(column_title, columns)],
        [
            [title(arm), *(_cell(cells.get(column), scores["test_tiles"]) for column in columns)]
            for arm, cells in table.items()
        ],
    )
    said = [*above(scores), scores["verdict"], scores["cause"], scores.get("seeds_show", ""), kept["notes"]]
    pretrain, versions = recipe["pretrain"], ", ".join(f"{name} {v}" for name, v in kept["versions"].items())
    seeds = ", ".join(map(str, scores["seeds"]))
    minutes = sum(took for stage, took in kept["seconds"].items() if stage != "compare") / 60  # its parts stand apart
    then = f" ({kept['then']})" if "then" in kept else ""
    raw = recipe["pretrain"]["source"] == "raw"
    arm = "GCL is the recipe as it stands: here both views show the raw tile, and there is no generator." if raw else ""
    drawn = f" {OF_DRAWS}" if any("@" in column for column in columns) else ""
    sentences = [found["sentence"] for answers in scores["answers"].values() for found in answers]
    return f"""### {kept["data"]}

{" ".join(filter(None, said))}

{shown}
{scores["measure"].capitalize()} in percent on {scores["test_tiles"]:,} test tiles, mean and 95 % interval \
{over(scores)} \
(seeds {seeds}). A share of labels: fine-tuned, or supervised without pretraining.{drawn} {scores["split"]} {arm}

{chr(10).join(f"- {sentence}" for sentence in sentences)}

`{kept["command"]}`{then}, commit {kept["commit"]}, {kept["date"]}: {recipe["data"]["size"]} px, \
{pretrain["backbone"]}, {pretrain["method"]["name"]}, {pretrain["epochs"]} epochs, \
mixing rate {pretrain["mixing_rate"]:g}, p {recipe["views"]["mask_probability"]:g}; \
{minutes:.0f} min of stages on {kept["processor"]} in {kept["precision"]}; \
{versions}. [All figures]({HERE.name}/{kept["name"]}.json)
"""


def _cell(score: Kept | None, tiles: int) -> str:
    return f"{mean_text(score, tiles)} ({interval_text(score, tiles).replace('–', '-')})" if score else ""


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


PAGES = {ROOT / "docs" / "results.md": for_page, ROOT / "README.md": for_readme}


def rendered(page: Path) -> str:
    """A page with its tables as the kept results have them; one without the two comments as it is."""
    tables = PAGES[page](kept_results())
    return BETWEEN.sub(lambda found: f"{found[1]}\n{tables}\n{found[2]}", page.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    adding = verbs.add_parser("collect")
    adding.add_argument("run", type=Path)
    adding.add_argument("--command", required=True)
    adding.add_argument("--commit", required=True)
    verbs.add_parser("render")
    given = parser.parse_args()
    if given.verb == "collect":
        print(collect(given.run, given.command, given.commit))
        return
    for page in PAGES:
        page.write_text(rendered(page), encoding="utf-8")


if __name__ == "__main__":
    main()

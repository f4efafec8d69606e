"""What the pages tell a reader to type is typed here, as far as it can be; see ``pages`` for which blocks are run.

All pages share one folder, in which a reader may have begun: ``tiles/``, a few tiles in class folders,
``scenes/``, a few scenes, and ``mine.yaml``, a recipe that takes seconds, with its run finished.
"""

import ast
import importlib
import re
import tomllib
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from drawn_imagery import draw
from made_scenes import values, write_scene
from pages import PAGES, ROOT, Block, blocks, linked_files, loose_commands

from gcl_custom.recipe.file import load_card, load_recipe, shipped
from gcl_custom.recipe.imagery import Card

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
APP: typer.Typer = importlib.import_module(PROJECT["scripts"]["gcl-custom"].partition(":")[0]).app
COMMANDS: Any = typer.main.get_command(APP)

LANGUAGES = {"bash", "console", "python", "yaml", "text", "mermaid"}
"""Of fences; text and mermaid are shown and no more."""

MINE = """
data: {root: tiles, size: 32}
generator:
  tokenizer: {epochs: 1, batch: 8, codes: 16, channels: 16, blocks: 1, adversary_channels: 8, perceptual: {name: none}}
  maskgit: {epochs: 1, batch: 8, width: 32, depth: 1, heads: 1}
views: {decoding_steps: 2}
pretrain:
  backbone: resnet18
  epochs: 1
  batch: 8
  method: {projector: [32, 32]}
  optimizer: {name: adamw, learning_rate: 1e-3}
compare:
  seeds: [0]
  arms: [gcl, handcrafted, supervised]
  fractions: [0.5]
  shots: [2]
  draws: 2
  penalties: [1e-2]
  learning_rates: [1e-3]
  finetune_steps: 2
  supervised_epochs: 1
  batch: 8
hardware: {accelerator: cpu, precision: fp32}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader types."""
    path = tmp_path_factory.mktemp("reader")
    torch.set_num_threads(1)
    draw(path / "tiles", bands=3, each=12, size=32)
    for number in range(3):
        pixels = values(256, 256, bands=3, seed=number).astype("uint8")
        write_scene(path / "scenes" / f"{number}.tif", pixels, photometric="rgb")
    (path / "mine.yaml").write_text(MINE)
    with chdir(path):
        execute(["gcl-custom", "run", "mine.yaml"])
    return path


def execute(words: Sequence[str]) -> None:
    """Run a command of ours in this process; a recipe that was copied is then made as small as that of the tests."""
    assert words[0] == "gcl-custom", f"{words[0]} is not run here: mark the block, see pages.py"
    copied = Path(words[-1]) if words[1:3] == ["recipes", "copy"] else None
    if copied is not None:
        copied.unlink(missing_ok=True)
    APP(list(words[1:]), standalone_mode=False)
    if copied is not None:
        load_recipe(copied)
        copied.write_text(MINE)


def parse(words: Sequence[str]) -> None:
    """Check a command without running it: that of ours has such options and keys; make and pip have such targets."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= {*targets}, words
    for extra in re.findall(r"gcl-custom\[(\w+)]", " ".join(words)):
        assert extra in PROJECT["optional-dependencies"], words
    if words[0] != "gcl-custom":
        return
    command, context, rest = COMMANDS, None, list(words[1:])
    while hasattr(command, "commands"):
        if not rest or rest[0].startswith("-"):  # no verb: gcl-custom --help
            return
        context = command.make_context("gcl-custom", rest[:1], parent=context)
        command, rest = command.commands[rest[0]], rest[1:]
    if not rest:  # named in a sentence, without what it works on
        return
    given = command.make_context(words[1], rest, parent=context).params
    name = given.get("recipe") or given.get("study") or "NAME"
    known = {*shipped("recipes"), *shipped("recipes/studies")}
    assert name.isupper() or name in known or (ROOT / name).is_file() or Path(name).exists(), f"there is no {name}"
    if given.get("set_"):
        load_recipe(name if name in shipped("recipes") else "mine.yaml", given["set_"])


def read_yaml(block: Block) -> None:
    """Check a card, or a part of a recipe: its sections stand in place of those of the tests, but for the root."""
    values = yaml.safe_load(block.text)
    path = Path("part.yaml")
    if "licence" in values:
        path.write_text(block.text)
        load_card(str(path))
        return
    values["data"] = {"root": "tiles", **values.get("data", {})}
    path.write_text(yaml.safe_dump(yaml.safe_load(MINE) | values))
    load_recipe(path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    variables: dict[str, Any] = {}
    with chdir(folder):
        for block in blocks(page):
            assert block.language in LANGUAGES, f"{block.place}: {block.language or 'no'} language"
            try:
                if block.language in ("bash", "console"):
                    for words in block.commands:
                        (execute if block.runs else parse)(words)
                elif block.language == "python" and block.runs:
                    exec(compile(block.text, block.place, "exec"), variables)
                elif block.language == "yaml" and block.runs:
                    read_yaml(block)
            except Exception as error:
                error.add_note(f"{block.place}:\n{block.text}")
                raise
        for words in loose_commands(page):
            parse(words)
    made = {path.name for path in folder.iterdir()} - before
    for name in made:  # the next page may make it again, but a card is named by the recipe that a run keeps
        if not name.endswith(".card.yaml"):
            (folder / name).rename(folder.with_name(f"{page.stem}-{name}"))


def test_a_misspelt_option_or_key_is_found(folder: Path) -> None:
    with chdir(folder):
        parse(["gcl-custom", "run", "RECIPE", "--set", "pretrain.epochs=3"])
        parse(["gcl-custom", "recipes", "copy", "NAME"])
        for wrong in ("run RECIPE --sett a=1", "run RECIPE --set pretrain.epoch=3", "rum RECIPE", "run eurosat"):
            with pytest.raises(Exception, match=r"No such option|unknown key|rum|there is no eurosat"):
                parse(["gcl-custom", *wrong.split()])


def test_every_key_of_a_card_is_explained() -> None:
    text = (ROOT / "docs" / "imagery.md").read_text(encoding="utf-8")
    assert [key for key in Card.model_fields if f"| `{key}` |" not in text] == []


def test_the_messages_that_are_explained_are_those_of_the_code() -> None:
    """Between quotation marks in the tables; ``...`` stands for whatever a message fills in."""
    texts = []
    for path in (ROOT / "gcl_custom").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r'"([^"]+)"', page)
    assert len(messages) > 20
    patterns = {text: ".*".join(map(re.escape, text.split("..."))) for text in messages}
    assert [text for text, pattern in patterns.items() if not any(re.search(pattern, known) for known in texts)] == []


def test_pages_show_the_results_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """To mend it: python docs/results/tables.py render."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "results")
    tables = importlib.import_module("tables")
    for page in tables.PAGES:
        assert page.read_text(encoding="utf-8") == tables.rendered(page)


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.stem)
def test_files_that_a_page_links_to_are_there(page: Path) -> None:
    """Of the pages outside the site, whose links its build does not check."""
    assert [path for path in linked_files(page) if not path.exists()] == []

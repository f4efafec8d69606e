"""Help, the version, and how mistakes end."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import gcl_custom
from typer.testing import CliRunner

from gcl_custom.cli.main import app
from gcl_custom.errors import UserError


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its words, those of a group of commands too."""
    yield name, group
    for verb, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {verb}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_with_its_whole_text(name: str) -> None:
    """Square brackets in a text would be read as colours."""
    done = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "100", "NO_COLOR": "1"})
    assert done.exit_code == 0, done.output
    shown = squeezed(done.output)
    for parameter in COMMANDS[name].params:
        assert squeezed(parameter.help or "") in shown
    for verb in getattr(COMMANDS[name], "commands", {}):
        assert verb in shown
    assert squeezed(COMMANDS[name].help or "") in shown


def squeezed(text: str) -> str:
    """Without the breaks, spaces and borders that a table puts into a text."""
    return re.sub(r"[\s│]", "", text)


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", CliRunner().invoke(app, ["--version"]).output)


@pytest.mark.parametrize(("name", "value"), [("RANK", "first"), ("WORLD_SIZE", ""), ("SLURM_PROCID", "-1")])
def test_an_odd_variable_of_a_launcher_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"{name} is '{value}', and should be a whole number"):
        CliRunner().invoke(app, ["recipes", "list"], catch_exceptions=False)


def test_five_mistakes_five_lines_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "data: {root: x, siz: 64}\ngenerator: {tokenizer: {epochs: ten, perceptual: {name: vgg16}}}\n"
        "views: {mask_probability: 1.5}\npretrain: {anchor: rw}\n"
    )
    done = gcl_custom(tmp_path, "fit-generator", "bad.yaml", check=False)
    assert done.returncode == 1
    assert (done.stdout + done.stderr).count("\n  - ") == 5
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments", [["pretrain"], ["pretrain", "--run", "none"], ["report"], ["fit-generator", "no.yaml"]]
)
def test_without_a_run_or_recipe_one_message(tmp_path: Path, arguments: list[str]) -> None:
    done = gcl_custom(tmp_path, *arguments, check=False)
    assert done.returncode == 1
    assert (done.stdout + done.stderr).startswith("error: There is no")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "r.yaml/runs"], "r.yaml/runs/r: a part of the path is a file, not a folder. Choose another place"),
        (["--runs", f"{'n' * 300}"], "the name is too long. Choose a shorter one"),
        (["--run", "n" * 300], "has 200 bytes at most"),
        (["--set", "pretrain.batch=1000000000"], "less than or equal to 131072"),
        (["--set", "hardware.devices=250"], "hardware.devices is 250, but there can be"),
    ],
)
def test_faults_end_in_one_message(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "r.yaml").write_text("data: {root: x}")
    done = gcl_custom(tmp_path, "fit-generator", "r.yaml", *arguments, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert said.count("error: ") == 1
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize("labels", ["labels.csv", "meta/a: b.csv", "1e3", "[x].csv"])
def test_check_takes_a_table_of_labels_whatever_its_name(
    labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text("data: {root: tiles, labels: other.csv}")
    done: list[Any] = []
    monkeypatch.setattr("gcl_custom.cli.jobs.do", lambda stage, run, *_: done.append((stage, run.recipe.data.labels)))
    ended = CliRunner().invoke(app, ["check", str(tmp_path / "mine.yaml"), "--labels", labels])
    assert ended.exit_code == 0, ended.output
    assert done == [("check", labels)]

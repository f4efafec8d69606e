"""Every command that a message names can be typed as it stands there, and does its work on a tiny run."""

import shlex
import shutil
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import typer
from named_commands import named_commands

from gcl_custom.cli.main import app

COMMANDS: Any = typer.main.get_command(app)
PROSE = {f"gcl-custom {word}" for word in ("itself", "does", "or", "wrote", "export", "init", "than ⟨__version__⟩")} | {
    "gcl-custom init --minutes"
}
"""Named in a sentence that tells nobody to type it."""
PUSHED = "file:///tiles"
FILLED = {
    ".options⟩": "--run tiny",
    "⟨shlex.join(where)⟩": "--run tiny --runs runs",
    "⟨shlex.quote(str(run.path/'recipe.yaml'))⟩": "runs/tiny/recipe.yaml",
    "⟨WEIGHTS⟩=weights/⟨FID_FILE⟩": "cost_benefit.fid_weights=w.pth",
    **dict.fromkeys(("⟨target⟩", "⟨recipe⟩", "⟨typed⟩", "RECIPE"), "tiny.yaml"),
    **dict.fromkeys(("⟨folder⟩", "⟨kind⟩", "⟨name⟩"), "quickstart"),
    "⟨given⟩": "--backbone=floor=untrained:test_resnet",
    "NAME=SPEC": "floor=untrained:test_resnet",
    "NEW_NAME": "new",
    "SCENE": "scenes/burn_scar/burn_scar_00000.tif",
    "MAPS": "maps",
    "TILE": "burn_scar/burn_scar_00000.tif",
    "FOLDER": "scenes",
    "FILE": "tiny.safetensors",
    "ADDRESS": PUSHED,
    "⟨setting⟩": f"data.store.address={PUSHED}",
}
"""The end of a word -> what stands for it here."""
QUICK = ("--set", "pretrain.epochs=1", "--set", "compare.arms=[gcl]", "--set", "compare.fractions=[]", "--set",
         "pretrain.mixing_rate=0")  # fmt: skip
"""Makes a new run a matter of seconds."""


def words(command: str) -> list[str]:
    """The words of a command with something that exists in place of each mark and placeholder."""
    typed: list[str] = []
    for word in command.split()[1:]:
        typed += shlex.split(next((value for end, value in FILLED.items() if word.endswith(end)), word))
    assert not any("⟨" in word for word in typed), f"say in FILLED what stands here: {command}"
    return typed


def parse(typed: Sequence[str]) -> None:
    """Read a command as the command line does, without doing it."""
    command, context, rest = COMMANDS, None, list(typed)
    while hasattr(command, "commands"):
        context = command.make_context("gcl-custom", rest[:1], parent=context)
        assert rest[0] in command.commands, rest[0]
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(typed[0], rest, parent=context)


NAMED = [command for command in named_commands() if command not in PROSE]


def test_commands_are_found_where_messages_name_them() -> None:
    assert {"gcl-custom recipes list", "gcl-custom weights RECIPE --download"} <= set(NAMED)
    assert any(command.startswith("gcl-custom pretrain ⟨") for command in NAMED)
    assert len(NAMED) > 15


@pytest.mark.parametrize("command", NAMED)
def test_a_command_that_a_message_names_is_understood(command: str) -> None:
    parse(words(command))


@pytest.mark.parametrize("wrong", ["gcl-custom evaluate", "gcl-custom rum RECIPE", "gcl-custom check --sett a=1"])
def test_a_command_that_would_be_refused_is_found(wrong: str) -> None:
    with pytest.raises(Exception, match=r"Missing parameter|rum|No such option"):
        parse(words(wrong))


def test_commands_that_messages_name_do_their_work(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "typed"
    shutil.copytree(project, folder, symlinks=True)
    for other in ("cost_benefit", "evaluate"):  # what other tests made there, with other weights and other networks
        shutil.rmtree(folder / "runs" / "tiny" / other, ignore_errors=True)
    done = []
    with chdir(folder):
        (folder / "runs" / "latest").write_text("tiny")
        for command in NAMED:
            typed = [word.replace(PUSHED, f"file://{folder}/pushed") for word in words(command)]
            streamed = any("data.store" in word for word in typed)  # the test of push does this on a run of its own
            if "--download" in typed or typed == ["recipes", "keys"] or streamed:
                continue
            if typed[0] == "run" and ("new" in typed or "scenes" in typed):
                typed += QUICK
            if typed[0] == "cost-benefit":
                typed += ["--tiles", "4"]
            app(typed, standalone_mode=False)
            done.append(command)
            for made in ("OTHER.yaml", "mine.yaml", "tiny.safetensors"):
                (folder / made).unlink(missing_ok=True)
            (folder / "runs" / "latest").write_text("tiny")
    assert len(done) > 15
    assert (folder / "runs" / "new" / "report.html").is_file()
    assert (folder / "runs" / "scenes" / "pretrain" / "gcl-0" / "backbone.safetensors").is_file()

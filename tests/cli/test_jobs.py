"""Which stages a command does: nothing twice, nothing that is not needed, and the same after a kill."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import chdir
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from command_line import COMMAND, TINY, gcl_custom, started
from drawn_imagery import draw
from safetensors.torch import load_file
from tiny_recipe import TINY as TINY_RECIPE

from gcl_custom.cli import jobs
from gcl_custom.errors import UserError
from gcl_custom.files import locked
from gcl_custom.recipe.file import load_recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def test_what_is_done_is_not_done_again(project: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (project / "runs" / "tiny").rglob("*.safetensors")}
    gcl_custom(project, "run", "tiny.yaml")
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_a_summary_lists_what_was_done_now_in_a_few_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "tiny", TINY_RECIPE)
    tiles = plan.tiles(run)
    tiles.begin()
    tiles.finish(tiles={"train": 1400, "valid": 2, "test": 3}, content="0a", listing="0b")
    jobs._summary(run, {}, 5.0, lambda run: f"gcl-custom pretrain {run.options}")
    said = capsys.readouterr().out
    assert re.search(r"tiles +0 s +1,400 train, 2 valid, 3 test", said)
    assert "next:   gcl-custom pretrain --run tiny" in said
    jobs._summary(run, {stage.name: stage.record for stage in plan.stages(run)}, 5.0, None)
    assert capsys.readouterr().out == ""
    assert jobs.SHOWN["gap"](-0.5) == "0.50 nats above the marginal entropy"


def test_the_command_that_a_message_names_goes_on_without_a_recipe(project: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "scenes").symlink_to(project / "scenes")
    refused = gcl_custom(tmp_path, "make-views", "tiny.yaml", check=False)
    (remedy,) = re.findall(r"Run: gcl-custom (.+)", refused.stdout)
    assert remedy == "fit-generator --run tiny"
    said = gcl_custom(tmp_path, *remedy.split()).stdout
    assert said.count("tiles: done before") == 1
    assert "next:   gcl-custom pretrain --run tiny" in said


def test_a_value_that_was_refused_is_in_no_later_command(tmp_path: Path) -> None:
    draw(tmp_path / "tiles", bands=3, each=8, size=32)

    def pack(*overrides: str) -> Run:
        return jobs.work("tiles", None, [*overrides], False, Path("runs"), lambda run: jobs.do("tiles", run))

    with chdir(tmp_path):
        with pytest.raises(UserError, match="there is no band 9"):
            pack("data.use_bands=[9]")
        run = pack()
        assert run.recipe.data.use_bands is None
        assert plan.tiles(run).done
        with pytest.raises(UserError, match="was made from something else"):
            pack("data.use_bands=[9]")
        assert pack().recipe == run.recipe


def test_without_labels_all_else_is_done_and_the_next_command_uses_the_backbone(tmp_path: Path) -> None:
    draw(tmp_path / "classes", bands=3, each=12, size=32)
    (tmp_path / "flat").mkdir()
    for number, path in enumerate(sorted((tmp_path / "classes").rglob("*.*"))):
        path.rename(tmp_path / "flat" / f"{number}{path.suffix}")
    (tmp_path / "tiny.yaml").write_text(TINY)
    given = ("data={root: flat, size: 32}", "pretrain.mixing_rate=0")
    said = gcl_custom(tmp_path, "run", "tiny.yaml", *(word for text in given for word in ("--set", text))).stdout
    assert "no labels: all that needs none is done, and the comparison left out" in said
    assert "next:   gcl-custom embed flat --out tiny.parquet --run tiny" in said
    (tmp_path / "tiny.parquet").write_text("of before")
    said = gcl_custom(tmp_path, "pretrain").stdout
    assert "next:   gcl-custom embed flat --out tiny.parquet --overwrite --run tiny" in said
    gcl_custom(tmp_path, *said.rpartition("next:   gcl-custom ")[2].split())


def test_the_next_command_is_one_that_works_where_no_label_can_be_compared_on(tmp_path: Path) -> None:
    """All tiles are of one class, the folder of runs is another one, and the file that would be written is there."""
    draw(tmp_path / "classes", bands=3, each=12, size=32)
    (tmp_path / "my tiles").mkdir()
    first = min(path for path in (tmp_path / "classes").iterdir())
    first.rename(tmp_path / "my tiles" / first.name)
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "tiny.parquet").write_text("of before")
    given = ("data={root: my tiles, size: 32}", "pretrain.mixing_rate=0")
    settings = [word for text in given for word in ("--set", text)]
    said = gcl_custom(tmp_path, "pretrain", "tiny.yaml", "--runs", "kept here", *settings).stdout
    (following,) = re.findall(r"next:   gcl-custom (.+)", said)
    assert following == "embed 'my tiles' --out tiny.parquet --overwrite --run tiny --runs 'kept here'"
    gcl_custom(tmp_path, *shlex.split(following))
    assert (tmp_path / "tiny.parquet").read_bytes().startswith(b"PAR1")


def test_a_baseline_of_handcrafted_views_is_done_without_a_generator(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    gcl_custom(tmp_path, "run", "tiny.yaml", "--set", "pretrain.mixing_rate=0", "--set", "compare.arms=[gcl]")
    run = tmp_path / "runs" / "tiny"
    assert {path.name for path in run.iterdir() if path.is_dir()} >= {"tiles", "pretrain", "compare"}
    assert [name for name in ("tokenizer", "tokens", "maskgit", "views") if (run / name).exists()] == []
    assert "This run is not finished" not in (run / "report.html").read_text(encoding="utf-8")


def test_other_settings_are_refused_and_leave_everything_as_it_was(project: Path) -> None:
    refused = gcl_custom(project, "pretrain", "--set", "pretrain.epochs=3", check=False)
    assert refused.returncode == 1
    assert re.search(r"pretrain\.epochs: 2 -> 3.*--redo", refused.stdout + refused.stderr, re.DOTALL)
    assert "Traceback" not in refused.stdout + refused.stderr
    assert gcl_custom(project, "pretrain").returncode == 0


def kill_once(process: BaseProcess, begun: Callable[[], object]) -> None:
    """kill -9 as soon as something is true."""
    while not begun():
        assert process.is_alive(), "ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("stage", ["tokenizer", "maskgit", "pretrain/gcl-0"])
def test_killed_and_started_again_gives_the_same_weights(project: Path, tmp_path: Path, stage: str) -> None:
    """kill -9 at a moment after the stage's first checkpoint; the same command then goes on."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    checkpoint = tmp_path / "runs" / "tiny" / stage / "last.ckpt"
    kill_once(started(tmp_path, "run", "tiny.yaml"), checkpoint.exists)
    gcl_custom(tmp_path, "fit-generator", "tiny.yaml")
    gcl_custom(tmp_path, "pretrain")
    for weights in (project / "runs" / "tiny" / stage).glob("*.safetensors"):
        whole, resumed = load_file(weights), load_file(tmp_path / "runs" / "tiny" / stage / weights.name)
        assert all((whole[name] == resumed[name]).all() for name in whole)


GRID = """
recipe: tiny.yaml
settings: {compare.arms: [gcl], compare.fractions: []}
grid: {pretrain.mixing_rate: [0.0, 0.75]}
baseline: {pretrain.mixing_rate: 0.0}
"""


def test_a_study_takes_what_the_run_has_and_goes_on_after_a_kill(project: Path, tmp_path: Path) -> None:
    (project / "grid.yaml").write_text(GRID)
    study = project / "runs" / "grid"
    kill_once(started(project, "study", "grid.yaml"), lambda: list(study.glob("stages/pretrain/*/last.ckpt")))
    said = gcl_custom(project, "study", "grid.yaml").stdout
    assert "2 of 2 cells done" in said
    assert len((study / "table.md").read_text().splitlines()) == 2 + 2 + 3
    lent = {path.name.rpartition("-")[0] for path in study.glob("stages/**/*") if path.is_symlink()}
    # Probes are not lent: those of the run also have a share of the labels.
    assert lent == {"tiles", "tokenizer", "tokens", "maskgit", "views", "gcl-0"}
    assert "cell 2 of 2, mixing_rate=0.75: done before" in gcl_custom(project, "study", "grid.yaml").stdout


def test_two_processes_on_one_study_pass_over_what_is_taken_and_both_end_with_the_whole_table(project: Path) -> None:
    """Beside a third one, this test, which is at the first cell until both have nothing else to do, and then goes."""
    (project / "shared.yaml").write_text(GRID)
    study, command = project / "runs" / "shared", [*COMMAND, "study", "shared.yaml"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    with locked(study / "cells" / "mixing_rate=0"):
        alone = gcl_custom(project, *command[1:], "--cell", "mixing_rate=0", check=False)
        assert alone.returncode == 1
        assert "Another process is working in" in alone.stdout
        both = [
            subprocess.Popen(
                command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for _ in range(2)
        ]
        said = [_up_to("waiting for the other process that is working on it", process) for process in both]
        assert all("cell 1 of 2, mixing_rate=0: passed over" in text for text in said)
        assert not (study / "table.md").exists()
    ends = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert all("2 of 2 cells done" in text for text in ends)
    assert "not run yet" not in (study / "table.md").read_text()


def _up_to(words: str, process: subprocess.Popen[str]) -> str:
    """What a process says up to the line with these words."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"ended without saying {words!r}: {said}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_training_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = [*COMMAND, "fit-generator", "tiny.yaml", "--set", "generator.tokenizer.epochs=500"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "runs" / "tiny" / "tokenizer" / "last.ckpt").exists():
        assert process.poll() is None, "ended before it could be asked to"
        time.sleep(0.01)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}; what is finished is kept, and the same command does the rest" in out


def test_a_generator_that_no_pretraining_shows_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be trained for hours, in vain."""
    monkeypatch.setattr(jobs, "do", lambda *given: None)
    tokens = ["pretrain.targets={name: tokens}"]
    for name, changes, stop in (
        ("objects-small", [], "stop here and"),
        ("objects-small", tokens, "stop once the tokenizer is done and"),
        ("imagenet-noise", ["pretrain.source=raw", "compare.arms=[gcl]"], "stop here and"),  # it has no such stages
        ("eurosat-scratch", [], None),
        ("eurosat-scratch", tokens, None),
    ):
        jobs.fit_generator(Run(Path("runs") / name, load_recipe(name, changes)))
        said = " ".join(capsys.readouterr().out.split())
        assert ("shows generative views" in said) == bool(stop), name
        assert not stop or stop in said


def test_labels_of_a_cell_are_looked_at_before_its_generator_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(jobs, "do", lambda stage, *given: done.append(stage))
    jobs.score_cell(Run(tmp_path / "tiny", TINY_RECIPE))
    assert done.index("tiles") < done.index("labels") < done.index("tokenizer") < done.index("compare")

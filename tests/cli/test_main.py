"""The command line as a user types it: every stage, in processes of their own, on tiny synthetic scenes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from gcl_custom.files import locked

COMMAND = [str(Path(sys.executable).with_name("gcl-custom"))]

TINY = """
data:
  root: scenes
  card: quickstart-scenes
  size: 32
  synthetic: {tiles: 150, pixels: 32}
generator:
  tokenizer: {epochs: 3, batch: 21, codes: 16, channels: 16, blocks: 1, pixels_per_token: 8, code_width: 8,
              perceptual: {name: none}}
  maskgit: {epochs: 4, batch: 21, width: 32, depth: 1, heads: 2}
views: {decoding_steps: 3, batch: 16}
pretrain:
  backbone: resnet10t
  stem: small
  epochs: 2
  batch: 21
  optimizer: {name: adamw, learning_rate: 1e-3}
  method: {projector: [32, 32]}
  probe_every: 1
compare:
  seeds: [0]
  arms: [gcl, reconstructed, supervised]
  fractions: [0.5]
  penalties: [1e-2]
  learning_rates: [1e-3]
  finetune_steps: 3
  supervised_epochs: 1
  batch: 16
hardware: {precision: fp32, accelerator: cpu, checkpoint_minutes: 1e-9}
"""


def gcl_custom(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "COLUMNS": "200"}
    done = subprocess.run([*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the three commands of the README have been typed."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.yaml").write_text(TINY)
    gcl_custom(folder, "fit-generator", "tiny.yaml")
    gcl_custom(folder, "pretrain")
    gcl_custom(folder, "compare-supervised")
    return folder


def test_the_three_commands_leave_a_backbone_scores_and_a_report(workplace: Path) -> None:
    run = workplace / "runs" / "tiny"
    made = ["recipe.yaml", "tokenizer/vqgan.safetensors", "maskgit/maskgit.safetensors",
            "pretrain/gcl-0/backbone.safetensors", "compare/scores.json", "report.html"]  # fmt: skip
    assert [name for name in made if not (run / name).is_file()] == []
    assert not list(run.rglob("*.part"))


def test_backbones_from_elsewhere_are_scored_on_the_tiles_of_a_run(workplace: Path) -> None:
    backbones = ["--backbone", "ours=run:tiny", "--backbone", "floor=untrained:resnet10t:small"]
    shown = gcl_custom(workplace, "evaluate", *backbones, "--run", "tiny").stdout
    assert "between ours and floor" in shown
    scores = json.loads((workplace / "runs" / "tiny" / "evaluate" / "scores.json").read_text())
    assert set(scores["scores"]) == {"ours", "floor"}
    page = (workplace / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert f"{100 * scores['scores']['ours']['linear']['mean']:.2f}" in page
    assert "untrained:resnet10t:small" in page
    refused = gcl_custom(workplace, "evaluate", "--backbone", "ours=run:huge", check=False)
    assert refused.returncode == 1
    assert "there is no run 'huge' in runs. There are: ['tiny']" in refused.stdout


def test_what_is_done_is_not_done_again(workplace: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (workplace / "runs" / "tiny").rglob("*.safetensors")}
    gcl_custom(workplace, "run", "tiny.yaml")
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_a_baseline_of_handcrafted_views_is_done_without_a_generator(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    gcl_custom(tmp_path, "run", "tiny.yaml", "--set", "pretrain.mixing_rate=0", "--set", "compare.arms=[gcl]")
    run = tmp_path / "runs" / "tiny"
    assert {path.name for path in run.iterdir() if path.is_dir()} >= {"tiles", "pretrain", "compare"}
    assert [name for name in ("tokenizer", "tokens", "maskgit", "views") if (run / name).exists()] == []
    assert "This run is not finished" not in (run / "report.html").read_text(encoding="utf-8")


def test_cost_benefit_is_measured_once_and_shown_in_the_report(workplace: Path, fid_weights: Path) -> None:
    command = ["cost-benefit", "--run", "tiny", "--tiles", "4", "--set", f"cost_benefit.fid_weights={fid_weights}"]
    said = gcl_custom(workplace, *command).stdout
    assert "in-painting, p = 0.75" in said
    assert "fewer than its 2,048 features" in said
    run = workplace / "runs" / "tiny"
    table = (run / "cost_benefit" / "table.md").read_text(encoding="utf-8")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert table.startswith("| augmentation | feature distance | FID | SSIM |")
    assert '<th class="number">FID</th>' in page
    rows = json.loads((run / "cost_benefit" / "results.json").read_text(encoding="utf-8"))["augmentations"]
    assert all(row["fid"] > 0 for row in rows)
    for row in ("in-painting, p = 0.25", "crop", "solarise", "suite, first view"):
        assert f"| {row} |" in table
        assert f'<th scope="row">{row}</th>' in page
    assert "cost_benefit: done before" in gcl_custom(workplace, *command).stdout


GRID = """
recipe: tiny.yaml
settings: {compare.arms: [gcl], compare.fractions: []}
grid: {pretrain.mixing_rate: [0.0, 0.75]}
baseline: {pretrain.mixing_rate: 0.0}
"""


def test_a_study_takes_what_the_run_has_and_goes_on_after_a_kill(workplace: Path, tmp_path: Path) -> None:
    (workplace / "grid.yaml").write_text(GRID)
    command = [*COMMAND, "study", "grid.yaml"]
    process = subprocess.Popen(command, cwd=workplace, stdout=subprocess.DEVNULL, start_new_session=True)
    study = workplace / "runs" / "grid"
    while not list(study.glob("stages/pretrain/*/last.ckpt")):
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    said = gcl_custom(workplace, "study", "grid.yaml").stdout
    assert "2 of 2 cells done" in said
    assert len((study / "table.md").read_text().splitlines()) == 2 + 2 + 1
    lent = {path.name.rpartition("-")[0] for path in study.glob("stages/**/*") if path.is_symlink()}
    assert lent == {"tiles", "tokenizer", "tokens", "maskgit", "views", "gcl-0", "untrained-0"}
    assert "cell 2 of 2, mixing_rate=0.75: done before" in gcl_custom(workplace, "study", "grid.yaml").stdout


def test_two_processes_on_one_study_pass_over_what_is_taken_and_both_end_with_the_whole_table(workplace: Path) -> None:
    """Beside a third one, this test, which is at the first cell until both have nothing else to do, and then goes."""
    (workplace / "shared.yaml").write_text(GRID)
    study, command = workplace / "runs" / "shared", [*COMMAND, "study", "shared.yaml"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    with locked(study / "cells" / "mixing_rate=0"):
        alone = gcl_custom(workplace, *command[1:], "--cell", "mixing_rate=0", check=False)
        assert alone.returncode == 1
        assert "Another process is working in" in alone.stdout
        both = [
            subprocess.Popen(
                command, cwd=workplace, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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


def test_other_settings_are_refused_and_leave_everything_as_it_was(workplace: Path) -> None:
    refused = gcl_custom(workplace, "pretrain", "--set", "pretrain.epochs=3", check=False)
    assert refused.returncode == 1
    assert re.search(r"pretrain\.epochs: 2 -> 3.*--redo", refused.stdout + refused.stderr, re.DOTALL)
    assert "Traceback" not in refused.stdout + refused.stderr
    assert gcl_custom(workplace, "pretrain").returncode == 0


@pytest.mark.parametrize("stage", ["tokenizer", "maskgit", "pretrain/gcl-0"])
def test_killed_and_started_again_gives_the_same_weights(workplace: Path, tmp_path: Path, stage: str) -> None:
    """kill -9 at a moment after the stage's first checkpoint; the same command then goes on."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = [*COMMAND, "run", "tiny.yaml"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    checkpoint = tmp_path / "runs" / "tiny" / stage / "last.ckpt"
    while not checkpoint.exists():
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    gcl_custom(tmp_path, "fit-generator", "tiny.yaml")
    gcl_custom(tmp_path, "pretrain")
    for weights in (workplace / "runs" / "tiny" / stage).glob("*.safetensors"):
        whole, resumed = load_file(weights), load_file(tmp_path / "runs" / "tiny" / stage / weights.name)
        assert all((whole[name] == resumed[name]).all() for name in whole)


def test_five_mistakes_five_lines_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "data: {root: x, siz: 64}\ngenerator: {tokenizer: {epochs: ten, perceptual: {name: vgg16}}}\n"
        "views: {mask_probability: 1.5}\npretrain: {anchor: rw}\n"
    )
    done = gcl_custom(tmp_path, "fit-generator", "bad.yaml", check=False)
    assert done.returncode == 1
    assert (done.stdout + done.stderr).count("\n  - ") == 5
    assert not (tmp_path / "runs").exists()


def test_recipes_are_listed_and_copied(tmp_path: Path) -> None:
    assert "quickstart" in gcl_custom(tmp_path, "recipes", "list").stdout
    gcl_custom(tmp_path, "recipes", "copy", "quickstart", "mine.yaml")
    assert (tmp_path / "mine.yaml").is_file()
    again = gcl_custom(tmp_path, "recipes", "copy", "quickstart", "mine.yaml", check=False)
    assert again.returncode == 1
    assert "exists already" in again.stdout + again.stderr


def test_check_says_what_would_happen_and_writes_nothing(workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "scenes").symlink_to(workplace / "scenes")
    before = sorted(tmp_path.rglob("*"))
    said = gcl_custom(tmp_path, "check", "tiny.yaml").stdout
    assert "150" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_s_backbone_embeds_its_own_scenes_and_is_exported(workplace: Path) -> None:
    """Scenes are GeoTIFFs with a coordinate system; the small stem is a step that a reader has to be told of."""
    said = gcl_custom(workplace, "embed", "scenes", "--out", "out/scenes.parquet").stdout
    assert "150 representations" in said
    assert "150 with coordinates" in said
    again = gcl_custom(workplace, "embed", "scenes", "--out", "out/scenes.parquet", check=False)
    assert (again.returncode, "--overwrite" in again.stdout) == (1, True)
    said = gcl_custom(workplace, "export", "--arm", "reconstructed", "--to", "huggingface", "--out", "out/model").stdout
    assert 'backbone.set_submodule("maxpool", torch.nn.Identity())' in said
    card = (workplace / "out" / "model" / "README.md").read_text("utf-8")
    assert "synthetic" in card
    assert "| GCL | " in card


def test_help_and_version(tmp_path: Path) -> None:
    said = gcl_custom(tmp_path, "--help").stdout
    for verb in ("fit-generator", "make-views", "pretrain", "compare-supervised", "run", "check", "cost-benefit",
                 "report", "study", "evaluate", "embed", "export", "recipes"):  # fmt: skip
        assert verb in said
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", gcl_custom(tmp_path, "--version").stdout)


@pytest.mark.parametrize(
    "arguments", [["pretrain"], ["pretrain", "--run", "none"], ["report"], ["fit-generator", "no.yaml"]]
)
def test_without_a_run_or_recipe_one_message(tmp_path: Path, arguments: list[str]) -> None:
    done = gcl_custom(tmp_path, *arguments, check=False)
    assert done.returncode == 1
    assert (done.stdout + done.stderr).startswith("error: There is no")
    assert "Traceback" not in done.stdout + done.stderr

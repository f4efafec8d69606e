"""Each command as a user types it, on tiny synthetic scenes."""

import json
import subprocess
from pathlib import Path

from command_line import TINY, gcl_custom


def test_the_three_commands_leave_a_backbone_scores_and_a_report(project: Path) -> None:
    run = project / "runs" / "tiny"
    made = ["recipe.yaml", "tokenizer/vqgan.safetensors", "maskgit/maskgit.safetensors",
            "pretrain/gcl-0/backbone.safetensors", "compare/scores.json", "report.html"]  # fmt: skip
    assert [name for name in made if not (run / name).is_file()] == []
    assert not list(run.rglob("*.part"))


def test_backbones_from_elsewhere_are_scored_on_the_tiles_of_a_run(project: Path) -> None:
    backbones = ["--backbone", "ours=run:tiny", "--backbone", "floor=untrained:resnet10t:small"]
    shown = gcl_custom(project, "evaluate", *backbones, "--run", "tiny").stdout
    assert "between ours and floor" in shown
    scores = json.loads((project / "runs" / "tiny" / "evaluate" / "scores.json").read_text())
    assert set(scores["scores"]) == {"ours", "floor", "statistics", "patches"}
    page = (project / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert f"{100 * scores['scores']['ours']['linear']['mean']:.0f}<span" in page
    assert "untrained:resnet10t:small" in page
    refused = gcl_custom(project, "evaluate", "--backbone", "ours=run:huge", check=False)
    assert refused.returncode == 1
    assert "there is no run 'huge' in runs. There are: ['tiny']" in refused.stdout


def test_cost_benefit_is_measured_once_and_shown_in_the_report(project: Path, fid_weights: Path) -> None:
    command = ["cost-benefit", "--run", "tiny", "--tiles", "4", "--set", f"cost_benefit.fid_weights={fid_weights}"]
    said = gcl_custom(project, *command).stdout
    assert "in-painting, p = 0.75" in said
    assert "fewer than its 2,048 features" in said
    run = project / "runs" / "tiny"
    table = (run / "cost_benefit" / "table.md").read_text(encoding="utf-8")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert table.startswith("| augmentation | feature distance | FID | SSIM |")
    assert '<th class="number">FID</th>' in page
    rows = json.loads((run / "cost_benefit" / "results.json").read_text(encoding="utf-8"))["augmentations"]
    assert all(row["fid"] > 0 for row in rows)
    for row in ("in-painting, p = 0.25", "crop", "solarise", "suite, first view"):
        assert f"| {row} |" in table
        assert f'<th scope="row">{row}</th>' in page
    assert "cost_benefit: done before" in gcl_custom(project, *command).stdout


def test_check_says_what_would_happen_and_writes_nothing(project: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "scenes").symlink_to(project / "scenes")
    before = sorted(tmp_path.rglob("*"))
    said = gcl_custom(tmp_path, "check", "tiny.yaml").stdout
    assert "150" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_s_backbone_embeds_its_own_scenes_and_is_exported(project: Path) -> None:
    """Scenes are GeoTIFFs with a coordinate system; the small stem is a step that a reader has to be told of."""
    said = gcl_custom(project, "embed", "scenes", "--out", "out/scenes.parquet").stdout
    assert "150 representations" in said
    assert "150 with coordinates" in said
    again = gcl_custom(project, "embed", "scenes", "--out", "out/scenes.parquet", check=False)
    assert (again.returncode, "--overwrite" in again.stdout) == (1, True)
    export = ("export", "--arm", "reconstructed", "--to")
    said = gcl_custom(project, *export, "timm", "--out", "out/backbone.safetensors").stdout
    assert 'backbone.set_submodule("maxpool", torch.nn.Identity())' in said
    refused = gcl_custom(project, *export, "huggingface", "--out", "out/model", check=False)
    assert (refused.returncode, "timm has no resnet10t without" in " ".join(refused.stdout.split())) == (1, True)


def weights(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a folder without weights, on a machine without a network."""
    return gcl_custom(
        folder,
        "weights",
        *arguments,
        check=False,
        COLUMNS="250",
        HF_HUB_CACHE=str(folder / "cache"),
        HF_HUB_OFFLINE="1",
    )


def test_missing_weights_end_with_1_and_the_order_that_brings_them(tmp_path: Path) -> None:
    done = weights(tmp_path, "imagenet-outpainting")
    assert done.returncode == 1
    assert "hf download llvictorll/Halton-MaskGIT ImageNet_256_base.pth --local-dir weights" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    offline = weights(tmp_path, "imagenet-outpainting", "--download")
    assert offline.returncode == 1
    assert "HF_HUB_OFFLINE is set" in offline.stdout
    assert "Traceback" not in offline.stdout + offline.stderr


def test_the_network_of_fid_is_brought_by_its_order(tmp_path: Path) -> None:
    key = "cost_benefit.fid_weights=weights/weights-inception-2015-12-05-6726825d.pth"
    done = weights(tmp_path, "quickstart", "--set", key)
    assert done.returncode == 1
    page = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
    name = "weights-inception-2015-12-05-6726825d.pth"
    assert f"cost_benefit.fid_weights: curl --create-dirs -Lo weights/{name} {page}/{name}" in done.stdout

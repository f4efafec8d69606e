"""The command as a user types it, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def weights(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from gcl_custom.cli.main import main; main()"
    environment = os.environ | {"COLUMNS": "250", "HF_HUB_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, "weights", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


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

"""What would end a run later is said before its tiles are packed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_images import class_folders
from tiny_recipe import TINY

from gcl_custom.cli import jobs
from gcl_custom.errors import UserError
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run
from gcl_custom.training.boards.kinds import NEEDS


def run_with(folder: Path, **sections: dict[str, Any]) -> Run:
    values = TINY.model_dump(mode="json")
    values["data"]["root"] = str(class_folders(folder / "root", 10))
    for name, keys in sections.items():
        values[name] = values[name] | keys
    return Run(folder / "runs" / "r", check_values(Recipe, values, "test"))


@pytest.mark.parametrize("job", [jobs.fit_generator, jobs.pretrain, jobs.compare, jobs.everything])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "^pretrain.start.weights: there are no weights at .*w.pth"),
        (b"", "^pretrain.start.weights: .*w.pth cannot be read as tensors"),
        (b"random bytes", "^pretrain.start.weights: .*w.pth cannot be read as tensors"),
        ({"epoch": 3}, "^pretrain.start.weights: .*w.pth holds no tensor"),
    ],
    ids=["missing", "empty", "random bytes", "no tensor"],
)
def test_weights_are_looked_at_before_tiles_are_packed(tmp_path: Path, job: Any, content: object, message: str) -> None:
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    start = {"name": "file", "weights": str(path), "mean": [0.5], "std": [0.5]}
    with pytest.raises(UserError, match=message):
        job(run_with(tmp_path, pretrain={"start": start}))
    assert not (tmp_path / "runs").exists()


def test_so_are_devices(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hardware\.devices is 250, but there can be"):
        jobs.fit_generator(run_with(tmp_path, hardware={"devices": 250}, pretrain={"batch": 256}))
    assert not (tmp_path / "runs").exists()


def test_so_are_packages_of_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEEDS, "mlflow", ("no_such_package",))
    with pytest.raises(UserError, match=r"hardware\.loggers: mlflow needs no_such_package"):
        jobs.fit_generator(run_with(tmp_path, hardware={"loggers": ["mlflow"]}))
    assert not (tmp_path / "runs").exists()

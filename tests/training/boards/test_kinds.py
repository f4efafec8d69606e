"""Boards by Lightning's loggers; MLflow's and W&B's packages are extras, and not among those of the tests."""

import ast
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from regression import HARDWARE, stage_in

from gcl_custom.errors import UserError
from gcl_custom.training.boards import kinds
from gcl_custom.training.boards.kinds import NEEDS, Table, require_loggers


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
@pytest.mark.parametrize("lightning", [True, False])
def test_a_missing_extra_is_named(name: str, lightning: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    there = ModuleSpec("lightning", None) if lightning else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: there if package == "lightning" else None)
    missing = name if lightning else f"lightning and {name}"
    with pytest.raises(UserError, match=rf"{name} needs {missing}\. Run: pip install 'gcl-custom\[{name}\]'$"):
        require_loggers(HARDWARE.model_copy(update={"loggers": [name]}))


def test_csv_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    require_loggers(HARDWARE.model_copy(update={"loggers": ["csv"]}))


def test_each_board_has_its_extra() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    for name, packages in NEEDS.items():
        for package in packages:
            assert f'"{package}>=' in text.split(f"\n{name} = [")[1].split("]")[0]


def test_lightning_is_imported_only_where_a_board_is_opened() -> None:
    tree = ast.parse(Path(kinds.__file__).read_text(encoding="utf-8"))
    top = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not [module for module in top if module.split(".")[0] == "lightning"]


def test_a_table_begins_anew_whenever_it_is_opened(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    for epochs in ([1, 2, 3], [1]):
        table = Table(stage)
        for epoch in epochs:
            table.send(epoch, {"loss": 0.5}, {})
        table.flush()
    assert (stage.path / "csv" / "metrics.csv").read_text().splitlines() == ["loss,step", "0.5,1"]

"""What boards get, of trainings that are killed and of boards that fail."""

import csv
import json
import multiprocessing
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from regression import HARDWARE, Regression, read, stage_in

from gcl_custom.errors import UserError
from gcl_custom.runs.stage import Stage
from gcl_custom.training.batches import Batches
from gcl_custom.training.boards import boards
from gcl_custom.training.boards.boards import Boards
from gcl_custom.training.boards.kinds import Board
from gcl_custom.training.loop import fit

SERVED = HARDWARE.model_copy(update={"loggers": ["mlflow"]})


class Server(Board):
    """Appends to a file outside of the run what it gets, as a server would."""

    def __init__(self, stage: Stage, run: str | None) -> None:
        self.run, self._got = run or "first", stage.path.parents[1] / "got.jsonl"

    def send(self, epoch: int, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        with self._got.open("a") as file:
            file.write(json.dumps([self.run, epoch, figures, sorted(pictures)]) + "\n")


def train(folder: Path, loggers: list[str], killed_at: int | None = None, minutes: float = 1e-9) -> list[Any]:
    """The history of 5 epochs of 13 steps."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    hardware = HARDWARE.model_copy(update={"checkpoint_minutes": minutes, "loggers": loggers})
    return fit(Regression(killed_at), Batches(torch.arange(26), 2, 7, read), stage_in(folder), hardware, 5, 1)


def killed(folder: Path, loggers: list[str], at: int) -> None:
    process = multiprocessing.get_context("fork").Process(target=train, args=(folder, loggers, at, 100.0))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_table_has_each_epoch_once_also_after_a_kill(tmp_path: Path) -> None:
    killed(tmp_path, ["csv"], at=40)  # in the fourth epoch; the last checkpoint is that of the second
    history = train(tmp_path, ["csv"], minutes=100.0)
    with (tmp_path / "regression" / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5]
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in history]
    assert [bool(row["weight"]) for row in rows] == [False, True, False, True, True]


def test_a_server_gets_each_epoch_once_with_its_pictures_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "MLflow", Server)
    folder = tmp_path / "runs"
    killed(folder, ["mlflow"], at=40)
    history = train(folder, ["mlflow"], minutes=100.0)
    got = [json.loads(line) for line in (tmp_path / "got.jsonl").read_text().splitlines()]
    assert [(run, epoch) for run, epoch, *_ in got] == [("first", epoch) for epoch in (1, 2, 3, 4, 5)]
    assert [{"epoch": epoch, **figures} for _, epoch, figures, _ in got] == history
    assert [pictures for *_, pictures in got] == [[], ["squares"], [], ["squares"], ["squares"]]


def test_weights_and_fingerprint_are_those_without_boards(tmp_path: Path) -> None:
    assert train(tmp_path / "with", ["csv"]) == train(tmp_path / "without", [])
    records = [json.loads((tmp_path / run / "regression" / "working.json").read_text()) for run in ("with", "without")]
    assert records[0]["fingerprint"] == records[1]["fingerprint"]


def test_a_board_that_fails_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(Server):
        def send(self, epoch: int, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
            raise ConnectionError("no route to host\nmore")

    monkeypatch.setattr(boards, "MLflow", Failing)
    assert len(train(tmp_path, ["mlflow", "csv"])) == 5
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("mlflow failed (no route to host), and gets no more of regression") == 1
    assert len((tmp_path / "regression" / "csv" / "metrics.csv").read_text().splitlines()) == 6


def test_a_board_that_cannot_be_opened_ends_it_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object) -> Board:
        raise OSError("locked")

    monkeypatch.setattr(boards, "MLflow", opened)
    with pytest.raises(UserError, match=r"^hardware\.loggers: mlflow cannot be opened \(locked\)\. Mend it, or leave"):
        Boards(SERVED, stage_in(tmp_path))

"""A training's boards beside TensorBoard: which epochs they have got, and which they get.

A board gets an epoch once a checkpoint holds it. So an epoch that a killed process had begun to train further, and the
next one trains again, is there once. A table is written anew from the history whenever training goes on. For other
boards, a file in the stage's folder keeps the board's run and the last epoch that was sent. It is written before the
sending: a kill at that very moment leaves epochs out, and none is ever there twice.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gcl_custom import console
from gcl_custom.errors import UserError
from gcl_custom.files import read_json, write_json
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs.stage import Stage
from gcl_custom.training.boards.kinds import PICTURES, Board, MLflow, Table, Wandb

SENT = "boards.json"
"""File of a stage: name of a board -> its run, and the last epoch that it got."""


class Boards:
    """All boards of a training, in the process that writes.

    Raises:
        UserError: one cannot be opened.
    """

    def __init__(self, hardware: HardwareSettings, stage: Stage) -> None:
        self._stage, self._boards = stage, dict[str, Board]()
        kept = stage.path / SENT
        self._sent: dict[str, dict[str, Any]] = read_json(kept) if kept.is_file() else {}
        for name in dict.fromkeys(hardware.loggers):
            try:
                self._boards[name] = self._opened(name)
            except Exception as error:  # noqa: BLE001  of whatever store, on whatever machine
                raise UserError(
                    f"hardware.loggers: {name} cannot be opened ({_line(error)}). Mend it, or leave {name} out: that "
                    f"changes nothing else"
                ) from None

    def _opened(self, name: str) -> Board:
        if name == "csv":
            self._sent[name] = {"run": "", "epoch": -1}
            return Table(self._stage)
        run = self._sent.get(name, {}).get("run")
        board: Board = MLflow(self._stage, run) if name == "mlflow" else Wandb(self._stage, run)
        self._sent.setdefault(name, {"run": board.run, "epoch": -1})
        return board

    def send(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write the epochs that a board has not got yet. A board that fails is left alone from then on.

        Args:
            history: what a checkpoint holds.
        """
        for name, board in list(self._boards.items()):
            known = self._sent[name]
            new = [row for row in history if row["epoch"] > known["epoch"]]
            if not new:
                continue
            known["epoch"] = new[-1]["epoch"]
            write_json(self._stage.path / SENT, self._sent)
            try:
                for row in new:
                    figures = {figure: value for figure, value in row.items() if figure != "epoch"}
                    board.send(int(row["epoch"]), figures, self._pictures(int(row["epoch"])))
                board.flush()
            except Exception as error:  # noqa: BLE001  hours of training are worth more than a board
                console.warn(
                    f"hardware.loggers: {name} failed ({_line(error)}), and gets no more of {self._stage.name} from "
                    f"this command. Training goes on, and {self._stage.path / 'history.json'} has all figures"
                )
                del self._boards[name]

    def _pictures(self, epoch: int) -> dict[str, Path]:
        found = sorted((self._stage.path / PICTURES).glob(f"*-{epoch:05d}.png"))
        return {path.stem.rpartition("-")[0]: path for path in found}

    def close(self, complete: bool) -> None:
        """Release all of them."""
        for board in self._boards.values():
            with suppress(Exception):  # nothing is lost that was sent
                board.close(complete)
        self._boards = {}


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]

"""Kinds of boards: CSV, MLflow, Weights & Biases. Lightning's own loggers write them."""

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from gcl_custom.errors import UserError
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs.stage import Stage

PICTURES = "pictures"
"""Folder of a stage with NAME-EPOCH.png."""
NEEDS = {"csv": (), "mlflow": ("lightning", "mlflow"), "wandb": ("lightning", "wandb")}
"""Name of a board -> packages that it takes; the extra has the board's name."""
PROJECT = "gcl-custom"
"""MLflow's experiment and W&B's project, unless their own variables name another."""
MLFLOW_STORE = "sqlite:///mlflow.db"
"""MLflow's own default: a database in the folder where one types."""


def require_loggers(hardware: HardwareSettings) -> None:
    """Look for the packages of the boards.

    Raises:
        UserError: one is not installed.
    """
    for name in hardware.loggers:
        if missing := [package for package in NEEDS[name] if importlib.util.find_spec(package) is None]:
            raise UserError(
                f"hardware.loggers: {name} needs {' and '.join(missing)}. Run: pip install 'gcl-custom[{name}]'"
            )


class Board(ABC):
    """Where the figures of one training go."""

    run: str = ""
    """What the board calls this training, to go on with it later."""

    @abstractmethod
    def send(self, epoch: int, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Write an epoch."""

    def flush(self) -> None:
        """Called after the last of several epochs."""
        return

    def close(self, complete: bool) -> None:
        """Release the board; ``complete`` where no epoch will follow."""
        return


class Table(Board):
    """A table in the stage's folder. Its pictures lie there anyway."""

    def __init__(self, stage: Stage) -> None:
        (stage.path / "csv" / "metrics.csv").unlink(missing_ok=True)
        from lightning_fabric.loggers.csv_logs import CSVLogger  # here, since it takes seconds to import

        self._logger = CSVLogger(stage.path, name="", version="csv")

    def send(self, epoch: int, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        self._logger.log_metrics(dict(figures), epoch)

    def flush(self) -> None:
        self._logger.save()


class MLflow(Board):
    """A run of MLflow, in the store that MLFLOW_TRACKING_URI names."""

    def __init__(self, stage: Stage, run: str | None) -> None:
        from lightning.pytorch.loggers import MLFlowLogger  # here, since it takes seconds to import

        self._logger = MLFlowLogger(
            os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
            run_name=str(stage.path),
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", MLFLOW_STORE),
            run_id=run,
        )
        self.run = str(self._logger.run_id)
        if run is None:
            self._logger.log_hyperparams(dict(stage.settings))

    def send(self, epoch: int, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        self._logger.log_metrics(figures, epoch)
        for path in pictures.values():
            self._logger.experiment.log_artifact(self.run, str(path), PICTURES)

    def close(self, complete: bool) -> None:
        if complete:
            self._logger.finalize("success")


class Wandb(Board):
    """A run of Weights & Biases, kept on this machine unless WANDB_MODE is online."""

    def __init__(self, stage: Stage, run: str | None) -> None:
        from lightning.pytorch.loggers import WandbLogger  # here, since it takes seconds to import

        os.environ.setdefault("WANDB_SILENT", "true")  # else a dozen lines after each of dozens of trainings
        self.run = run or uuid4().hex
        self._logger = WandbLogger(
            str(stage.path),
            id=self.run,
            offline=os.environ.get("WANDB_MODE") != "online",
            project=os.environ.get("WANDB_PROJECT", PROJECT),
        )
        if run is None:
            self._logger.log_hyperparams(dict(stage.settings))

    def send(self, epoch: int, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        self._logger.log_metrics(figures, epoch)
        for name, path in pictures.items():
            self._logger.log_image(name, [str(path)], epoch)

    def close(self, complete: bool) -> None:
        self._logger.experiment.finish()  # else the next training would go on in this run

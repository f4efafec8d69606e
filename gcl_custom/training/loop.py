"""The one training loop: batches in a fixed order, checkpoints, exact resumption, and what a person sees meanwhile.

Lightning does the precision, the devices and the processes. Around it stand callbacks that make training a pure
function of (seed, stage, step), so that a run killed at any moment ends with the weights of an undisturbed one.
"""

import gc
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import lightning
import torch
from jaxtyping import Float
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from gcl_custom import console
from gcl_custom.files import read_json, write_json
from gcl_custom.pictures import save_picture
from gcl_custom.randomness import derive
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs.stage import Stage
from gcl_custom.training import batch_norm, processes
from gcl_custom.training.batches import Batch, Batches
from gcl_custom.training.devices import pick_device, uses_bf16
from gcl_custom.training.nonfinite_steps import require_finite
from gcl_custom.training.quiet_lightning import quiet_lightning

CHECKPOINT = "last.ckpt"
LINE_SECONDS = 2.0
"""Least time between two lines of a log, but for those of evaluations."""
CHECK_EVERY = 10
"""Training steps between two looks at the clock, whether a checkpoint is due."""


class _Rest:
    """What is left of a run, as one loader.

    Lightning's own bookkeeping of epochs restarts wrongly from some moments of a run, so to Lightning all that is left
    is one epoch, and epochs are counted here, from the step alone.
    """

    def __init__(self, batches: Batches, epochs: int) -> None:
        self._batches, self._steps = batches, epochs * batches.steps_per_epoch

    def __len__(self) -> int:
        return self._steps - self._batches.step

    def __iter__(self) -> Iterator[Batch]:
        while self._batches.step < self._steps:
            yield from self._batches


class Trainable(lightning.LightningModule):
    """A module that ``fit`` trains; it may look at itself now and then."""

    evaluate_every: int = 1
    """Epochs between two evaluations; there is one after the last epoch too."""

    recorded: Mapping[str, Tensor | float]

    def record(self, figures: Mapping[str, Tensor | float]) -> None:
        """Keep the figures of a training step; the history has their mean over each epoch."""
        self.recorded = figures

    def evaluate(self) -> dict[str, float]:
        """Figures to keep, computed on the first rank in evaluation mode, without gradients."""
        return {}

    def pictures(self) -> dict[str, Float[Tensor, "3 h w"]]:
        """Name -> RGB picture in [0, 1]."""
        return {}


class _Guard(lightning.Callback):
    """Seeds each step, stops at one whose loss or gradient is not finite, and has each process end in order."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage, self._seed, self._step = stage, seed, 0

    def setup(self, trainer: lightning.Trainer, module: Any, stage: str) -> None:
        processes.part_at_exit()

    def on_train_batch_start(self, trainer: lightning.Trainer, module: Any, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(derive(self._seed, self._stage.name, batch.step, trainer.global_rank))
        self._step = batch.step

    def on_before_backward(self, trainer: lightning.Trainer, module: Any, loss: Tensor) -> None:
        self._require_finite("loss", loss)

    def on_before_optimizer_step(self, trainer: lightning.Trainer, module: Any, optimizer: Any) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._require_finite("gradient", nn.utils.get_total_norm(gradients))

    def _require_finite(self, what: str, value: Tensor) -> None:
        require_finite(what, value, self._step, self._stage.name, self._stage.path / CHECKPOINT)


class _Watch(lightning.Callback):
    """Counts epochs, shows progress, evaluates, keeps the history, and writes checkpoints."""

    def __init__(self, stage: Stage, epochs: int, batches: Batches, minutes: float) -> None:
        self._stage, self._epochs, self._batches, self._seconds = stage, epochs, batches, 60 * minutes
        self._step = 0
        self._history: list[dict[str, float]] = []
        self._sums: dict[str, Tensor] = {}
        self._saved = self._said = time.monotonic()
        self._shown = ExitStack()

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "history": self._history, "sums": self._sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._step, self._history, self._sums = (state_dict[key] for key in ("step", "history", "sums"))
        self._batches.step = self._step

    def on_save_checkpoint(self, trainer: lightning.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["loops"] = None  # what is left is a new epoch to Lightning, see _Rest

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        bar = console.progress(self._epochs * self._batches.steps_per_epoch * self._batches.batch, self._stage.name)
        self._ticker = self._shown.enter_context(bar)
        if self._step:
            console.say(f"{self._stage.name}: going on from step {self._step}")
            self._ticker.skip(self._step * self._batches.batch)

    def on_train_end(self, trainer: lightning.Trainer, module: Any) -> None:
        self._shown.close()

    def on_exception(self, trainer: lightning.Trainer, module: Any, exception: BaseException) -> None:
        self._shown.close()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(module, Trainable)
        for name, value in module.recorded.items():
            # Kept where they are: bringing each figure to the CPU would wait for the device at each step.
            self._sums[name] = self._sums.get(name, torch.zeros(())) + torch.as_tensor(value).detach().float()
        self._step = batch.step + 1
        self._ticker.advance(self._batches.batch)
        due = False
        if self._step % self._batches.steps_per_epoch == 0:
            due = self._end_epoch(trainer, module, self._step // self._batches.steps_per_epoch)
        if due or self._step % CHECK_EVERY == 0:
            self._save(trainer, due)

    def _end_epoch(self, trainer: lightning.Trainer, module: Trainable, epoch: int) -> bool:
        """Close an epoch's row of the history; True where it was evaluated."""
        steps, row = self._batches.steps_per_epoch, {"epoch": float(epoch)}
        row |= {name: float(trainer.strategy.reduce(total / steps)) for name, total in self._sums.items()}
        self._sums = {}
        due = epoch % module.evaluate_every == 0 or epoch == self._epochs
        if due and trainer.is_global_zero:
            row |= self._evaluate(trainer, module, epoch)
        trainer.strategy.barrier()
        self._history.append(row)
        figures = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
        self._ticker.note(figures)
        # In a log a line for each epoch, but epochs of a step or two do not each deserve one.
        if due or (not console.console.is_terminal and time.monotonic() - self._said > LINE_SECONDS):
            console.say(f"{self._stage.name} epoch {epoch}/{self._epochs}  {figures}")
            self._said = time.monotonic()
        if trainer.is_global_zero:
            for name, value in row.items():
                _board(trainer).add_scalar(f"{self._stage.name}/{name}", value, epoch)
        return due

    def _evaluate(self, trainer: lightning.Trainer, module: Trainable, epoch: int) -> dict[str, float]:
        modes = {part: part.training for part in module.modules()}
        module.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            figures, pictures = module.evaluate(), module.pictures()
        for part, mode in modes.items():
            part.training = mode
        folder = self._stage.path / "pictures"
        folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            save_picture(folder / f"{name}-{epoch:05d}.png", picture)
            _board(trainer).add_image(f"{self._stage.name}/{name}", picture.float().cpu(), epoch)
        return figures

    def _save(self, trainer: lightning.Trainer, due: bool) -> None:
        """Write a checkpoint if one is due or the last is old; all ranks do as the first one says."""
        if not trainer.strategy.broadcast(due or time.monotonic() - self._saved > self._seconds):
            return
        path = self._stage.path / CHECKPOINT
        part = path.with_name(f".{CHECKPOINT}.part")
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            with part.open("rb") as file:
                os.fsync(file.fileno())
            # First the history: one that is ahead of the checkpoint is written again, one that is behind might not be.
            write_json(self._stage.path / "history.json", self._history)
            os.replace(part, path)
            self._stage.tick()
        self._saved = time.monotonic()


def _board(trainer: lightning.Trainer) -> Any:
    assert isinstance(trainer.logger, TensorBoardLogger)
    return trainer.logger.experiment


def fit(
    module: Trainable, batches: Batches, stage: Stage, hardware: HardwareSettings, epochs: int, seed: int
) -> list[dict[str, float]]:
    """Train a module, or go on where an earlier process stopped.

    Args:
        module: trained in place; everything that training changes must be in its state, its optimizers or schedulers.
        batches: what it is trained on; with more than one device, ``read`` must be picklable.
        stage: begun; its folder gets checkpoints, pictures, TensorBoard's files and ``history.json``.
        seed: torch's own generator is seeded from it, the stage and the step before each step, so that dropout and
            whatever else draws from it are functions of the step.

    Returns:
        One row of figures for each epoch, means over its steps.

    Raises:
        UserError: when a loss or a gradient is not finite; the last checkpoint stays.
    """
    device = pick_device(hardware)
    if hardware.devices > 1 and device.type != "cuda":
        batch_norm.join_batch_norms(module)
    checkpoint = stage.path / CHECKPOINT
    # A former trainer and its module refer to each other, and hold the optimizer's state until they are collected.
    gc.collect()
    with quiet_lightning():
        trainer = lightning.Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=hardware.devices,
            # Processes of our own that end with the training, so that all else in a stage runs once.
            strategy="auto" if hardware.devices == 1 else "ddp_spawn_find_unused_parameters_true",
            precision="bf16-mixed" if uses_bf16(hardware, device) else "32-true",
            max_epochs=1,
            logger=TensorBoardLogger(stage.path, name="", version="tensorboard"),
            callbacks=[
                _Guard(stage, seed),
                _Watch(stage, epochs, batches, hardware.checkpoint_minutes),
            ],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            sync_batchnorm=device.type == "cuda" and hardware.devices > 1,
            log_every_n_steps=1,
        )
        resume = checkpoint if checkpoint.exists() else None
        trainer.fit(module, _Rest(batches, epochs), ckpt_path=resume, weights_only=True)
    history: list[dict[str, float]] = read_json(stage.path / "history.json")
    return history

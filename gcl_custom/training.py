"""The one training loop: batches in a fixed order, checkpoints, exact resumption, and what a person sees meanwhile.

Lightning does the precision, the devices and the processes. Around it stand callbacks that make training a pure
function of (seed, stage, step), so that a run killed at any moment ends with the weights of an undisturbed one.
"""

import gc
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from einops import rearrange
from jaxtyping import Float, Int
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor, nn
from torchvision.utils import make_grid

from gcl_custom import console, processes
from gcl_custom.devices import pick_device, uses_bf16
from gcl_custom.errors import UserError
from gcl_custom.faults import require_finite
from gcl_custom.files import read_json, write_atomically, write_json
from gcl_custom.randomness import derive
from gcl_custom.recipe import Hardware
from gcl_custom.runs import Stage

CHECKPOINT = "last.ckpt"
LINE_SECONDS = 2.0
"""Least time between two lines of a log, but for those of evaluations."""
CHECK_EVERY = 10
"""Training steps between two looks at the clock, whether a checkpoint is due."""


class Batch(NamedTuple):
    """What a training step gets."""

    step: int
    """Number of the step in the whole run, from 0: the step that randomness is a function of."""
    tiles: Int[Tensor, " b"]
    """Numbers of the tiles in the store."""
    data: Any
    """What was read for these tiles."""


class Batches:
    """Batches whose order is a function of (seed, epoch) alone; iterating goes on to the end of the current epoch.

    The last, incomplete batch of an epoch is dropped; a batch larger than the data shrinks to it. The position is
    ``step``, which may be set. Under DDP each process gets its share of every batch.
    """

    def __init__(self, index: Int[Tensor, " n"], batch: int, seed: int, read: Callable[[Tensor], Any]) -> None:
        self.index, self.seed, self._read = index, seed, read
        self.batch = min(batch, len(index))
        self.steps_per_epoch = len(index) // self.batch
        self.step = 0

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.step // self.steps_per_epoch
        order = torch.randperm(
            len(self.index), generator=torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        )
        rank, world = processes.rank(), processes.count()
        if self.batch % world:
            raise UserError(
                f"A batch of {self.batch} tiles cannot be split over {world} processes; choose a multiple of {world}"
            )
        share = self.batch // world

        def fetch(step: int) -> tuple[Tensor, Any]:
            start = step % self.steps_per_epoch * self.batch + rank * share
            tiles = self.index[order[start : start + share]]
            return tiles, self._read(tiles)

        last = (epoch + 1) * self.steps_per_epoch
        with ThreadPoolExecutor(1) as reader:
            pending = reader.submit(fetch, self.step)
            while self.step < last:
                step, (tiles, data) = self.step, pending.result()
                if step + 1 < last:
                    pending = reader.submit(fetch, step + 1)
                self.step += 1
                yield Batch(step, tiles, data)


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


EXPECTED = (
    ".*in eval mode at the start of training.*",  # frozen feature networks
    ".*does not have many workers.*",  # Batches reads ahead in a thread of its own
    ".*across ranks is zero.*",  # a training that had ended, but whose stage had not
    ".*LeafSpec.*",  # Lightning's use of torch's trees
)
"""Warnings of Lightning's that do not hold here."""


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without its notes on hardware and products, and without the warnings that do not hold here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for expected in EXPECTED:
            warnings.filterwarnings("ignore", message=expected)
        yield


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
    module: Trainable, batches: Batches, stage: Stage, hardware: Hardware, epochs: int, seed: int
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
        processes.join_batch_norms(module)
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


def grid(rows: Sequence[Float[Tensor, "b c h w"]]) -> Float[Tensor, "3 H W"]:
    """A picture with one row for each batch of unit tiles; of more than three bands it shows the first three."""
    tiles = [tile for row in rows for tile in row.float().cpu().clamp(0, 1)]
    coloured = torch.stack([tile[:3] if len(tile) >= 3 else tile[:1].expand(3, -1, -1) for tile in tiles])
    return make_grid(coloured, nrow=len(rows[0]), padding=2, pad_value=1.0)


def save_picture(path: Path, picture: Float[Tensor, "3 h w"]) -> None:
    """Write an RGB picture in [0, 1] as PNG, atomically."""
    pixels = (picture.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    with write_atomically(path) as part:
        Image.fromarray(rearrange(pixels, "c h w -> h w c").numpy()).save(part, "PNG")

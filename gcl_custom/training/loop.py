"""The one training loop: batches in a fixed order, checkpoints, exact resumption, and what a person sees meanwhile.

Training is a pure function of (seed, stage, step), so a run killed at any moment ends with the weights of an
undisturbed one. Lightning's Fabric does the precision, the devices and the processes.
"""

import copy
import time
from contextlib import closing, nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from gcl_custom import console
from gcl_custom.files import UNREADABLE, damaged, read_json, write_atomically, write_json
from gcl_custom.machine_faults import unheard_threads, writing
from gcl_custom.pictures import save_picture
from gcl_custom.randomness import derive
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs.stage import Stage
from gcl_custom.training import batch_norm, fsdp, launched
from gcl_custom.training.allocator import freed_memory_kept
from gcl_custom.training.batches import Batches
from gcl_custom.training.boards.boards import Boards
from gcl_custom.training.boards.kinds import PICTURES
from gcl_custom.training.devices import autocast
from gcl_custom.training.engine import launch
from gcl_custom.training.quiet_lightning import quiet_lightning
from gcl_custom.training.steps import Steps, Trainable
from gcl_custom.training.stopping import StopRequests

CHECKPOINT = "last.ckpt"
HISTORY = "history.json"
LINE_SECONDS = 2.0
"""Least time between two lines of a log, but for those of evaluations."""
CHECK_EVERY = 10
"""Training steps between two looks at the clock, whether a checkpoint is due."""

Row = dict[str, float]
"""The figures of an epoch."""


def fit(
    module: Trainable, batches: Batches, stage: Stage, hardware: HardwareSettings, epochs: int, seed: int
) -> list[Row]:
    """Train a module, or go on where an earlier process stopped.

    Args:
        module: trained in place.
        batches: what it is trained on; with more than one device, ``read`` must be picklable.
        stage: begun; its folder gets checkpoints, pictures, TensorBoard's files and ``history.json``.
        seed: torch's own generator is seeded from it, the stage and the step before each step. So dropout, and
            whatever else draws from that generator, is a function of the step.

    Returns:
        One row of figures for each epoch, means over its steps; before them a row of epoch 0 if the module asks for it.
        There are fewer rows if the module ends early.

    Raises:
        UserError: a loss or a gradient is not finite, or a process was killed; the last checkpoint stays.
        Stopped: a signal asked for it, and a checkpoint was written.
    """
    joined = launched.leads()
    with quiet_lightning(), StopRequests(hardware.devices > 1 and not joined) as asked, writing(stage.path):
        # As arguments, so that processes on a CPU do not share the weights' memory. A copy, since norms are replaced.
        trained = copy.deepcopy(module) if joined else module
        try:
            launch(hardware, _train, trained, batches, stage, hardware, epochs, seed, asked)
        finally:
            if asked and not launched.broken():  # the same signal may have ended the other processes
                asked.stop()
    if hardware.processes > 1:  # the weights that were trained are others
        module.load_state_dict(_load(stage)["state_dict"])
    module.cpu()
    history: list[Row] = read_json(stage.path / HISTORY)
    return history


@freed_memory_kept()
@unheard_threads()
def _train(
    fabric: Fabric,
    module: Trainable,
    batches: Batches,
    stage: Stage,
    hardware: HardwareSettings,
    epochs: int,
    seed: int,
    asked: StopRequests,
) -> None:
    """What each process does."""
    if fabric.world_size > 1:
        # timm's conversion: torch's drops the activation that is a part of some of timm's norms.
        if fabric.device.type == "cuda":
            from timm.layers.norm_act import convert_sync_batchnorm  # here, since timm takes seconds to import

            convert_sync_batchnorm(module)
        else:
            batch_norm.join_batch_norms(module)
    training = _Training(fabric, module, batches, stage, hardware, epochs)
    training.begin()
    progress = console.progress(training.epochs * len(batches) * batches.batch, stage.name)
    with closing(training), progress as ticker:
        ticker.skip(batches.step * batches.batch)
        # All processes end with the first one, which alone evaluates.
        while batches.step < training.epochs * len(batches) and not fabric.broadcast(module.ended):
            for batch in batches:
                torch.manual_seed(derive(seed, stage.name, batch.step, fabric.global_rank))
                training.steps.take(fabric.to_device(batch))
                ticker.advance(batches.batch)
                if training.follow(ticker, asked):
                    return
        training.complete = True


def _load(stage: Stage, mapped: bool = False) -> dict[str, Any]:
    """The last checkpoint.

    Args:
        mapped: whether tensors stay in the file until they are read.

    Raises:
        UserError: it is damaged.
    """
    path = stage.path / CHECKPOINT
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UNREADABLE as error:
        raise damaged(path, error) from None
    return checkpoint


def _size(value: object) -> int:
    """Bytes of the tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.nbytes
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_size, inner))


class _Training:
    """The steps with what surrounds them: history, evaluations, and checkpoints, of which it starts from the last."""

    def __init__(
        self,
        fabric: Fabric,
        module: Trainable,
        batches: Batches,
        stage: Stage,
        hardware: HardwareSettings,
        epochs: int,
    ) -> None:
        self._fabric, self._module, self._batches, self._stage = fabric, module, batches, stage
        self._hardware, self._epochs = hardware, epochs
        self._history: list[Row] = []
        self._sums: dict[str, Tensor] = {}
        self._saved = self._said = time.monotonic()
        self.steps = Steps(module, fabric, hardware, stage.name, stage.path / CHECKPOINT)
        if (stage.path / CHECKPOINT).exists():
            checkpoint = _load(stage, mapped=self.steps.large is not None)
            try:
                fsdp.load_weights(module, checkpoint["state_dict"])
                fsdp.load_optimizer(self.steps.optimizer, checkpoint["optimizer"])
                self._batches.step, self._history = checkpoint["step"], checkpoint["history"]
                self._sums = {name: value.clone() for name, value in checkpoint["sums"].items()}  # if it was mapped
            except UNREADABLE as error:
                raise damaged(stage.path / CHECKPOINT, error) from None
            module.heed(self._history)
            console.say(f"{stage.name}: going on from step {batches.step}")
        self.complete = False
        self._board = SummaryWriter(str(stage.path / "tensorboard")) if fabric.is_global_zero else None
        self._boards = Boards(hardware, stage) if fabric.is_global_zero else None
        if self._boards:
            self._boards.send(self._history)

    @property
    def epochs(self) -> int:
        """With which training ends, as far as it is known."""
        return self._module.last_epoch or self._epochs

    def close(self) -> None:
        """Release TensorBoard's file and thread, and other boards; a comparison has dozens of trainings."""
        if self._board:
            self._board.close()
        if self._boards:
            self._boards.close(self.complete)

    def begin(self) -> None:
        """Evaluate what training begins with, if the module asks for it."""
        if self._module.evaluate_first and self._batches.step == 0:
            self._history.append({"epoch": 0.0, **self._evaluate(0)})

    def follow(self, ticker: console.Ticker, asked: StopRequests) -> bool:
        """Take note of a step; at the end of an epoch, or when it is time, evaluate and write a checkpoint.

        Returns:
            Whether training ends here, since a signal asked for it. A checkpoint is then written.
        """
        for name, value in self._module.recorded.items():
            # Kept where they are: bringing each figure to the CPU would wait for the device at each step.
            self._sums[name] = self._sums.get(name, torch.zeros(())) + torch.as_tensor(value).detach().float()
        epoch, rest = divmod(self._batches.step, len(self._batches))
        evaluated = rest == 0 and self._end_epoch(epoch, ticker)
        alone = self._fabric.world_size == 1
        if not evaluated and self._batches.step % CHECK_EVERY and not (alone and asked):
            return False
        # All ranks do as the first one says.
        saves, ends = self._fabric.broadcast((evaluated or bool(asked) or self._is_old(), bool(asked)))
        if saves:
            self.save()
        return bool(ends)

    def _end_epoch(self, epoch: int, ticker: console.Ticker) -> bool:
        """Close an epoch's row of the history; True where it was evaluated."""
        row = {"epoch": float(epoch)}
        row |= {name: (total / len(self._batches)).item() for name, total in self._means().items()}
        self._sums = {}
        evaluated = self._module.evaluates(epoch) or epoch == self.epochs
        if evaluated:
            row |= self._evaluate(epoch)
        self._history.append(row)
        self._module.heed(self._history)
        ticker.limit(self.epochs * len(self._batches) * self._batches.batch)
        figures = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
        ticker.note(figures)
        # In a log a line for each epoch, but epochs of a step or two do not each deserve one.
        long_ago = not console.console.is_terminal and time.monotonic() - self._said > LINE_SECONDS
        if self._module.says_epochs and (evaluated or long_ago):
            console.say(f"{self._stage.name} epoch {epoch}/{self.epochs}  {figures}")
            self._said = time.monotonic()
        if self._board:
            for name, value in row.items():
                self._board.add_scalar(f"{self._stage.name}/{name}", value, epoch)
        return evaluated

    def _means(self) -> dict[str, Tensor]:
        """The sums of the epoch so far, each the mean over all processes."""
        found = dict[str, Tensor]()
        for name, total in self._sums.items():
            mean = self._fabric.all_reduce(total.clone(), reduce_op="mean")  # in place
            assert isinstance(mean, Tensor)
            found[name] = mean
        return found

    def _evaluate(self, epoch: int) -> Row:
        """What the first process finds; then all keep what its figures decide."""
        first, large = self._fabric.is_global_zero, self.steps.large
        with fsdp.gathered(large.evaluated, first) if large else nullcontext():
            figures: Row = self._fabric.broadcast(self._evaluate_here(epoch) if first else {})
        self._module.keep(figures)
        return figures

    def _evaluate_here(self, epoch: int) -> Row:
        modes = {part: part.training for part in self._module.modules()}
        self._module.eval()
        with torch.no_grad(), autocast(self._hardware, self._fabric.device):
            figures, pictures = self._module.evaluate(), self._module.pictures()
        for part, mode in modes.items():
            part.training = mode
        folder = self._stage.path / PICTURES
        folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            save_picture(folder / f"{name}-{epoch:05d}.png", picture)
            if self._board:
                self._board.add_image(f"{self._stage.name}/{name}", picture.float().cpu(), epoch)
        return figures

    def _is_old(self) -> bool:
        return time.monotonic() - self._saved > 60 * self._hardware.checkpoint_minutes

    def save(self) -> None:
        """Write a checkpoint."""
        sums = self._means()  # all processes go on from these
        state = {"state_dict": self._module.state_dict(), "optimizer": self.steps.optimizer.state_dict()}
        if self.steps.large:
            state = fsdp.whole_state(state, self._fabric.is_global_zero)
        if self._fabric.is_global_zero:
            # First the history: one that is ahead of the checkpoint is written again, one that is behind might not be.
            write_json(self._stage.path / HISTORY, self._history)
            with write_atomically(self._stage.path / CHECKPOINT, _size(state)) as part:
                torch.save({**state, "step": self._batches.step, "history": self._history, "sums": sums}, part)
            self._stage.tick()
            if self._boards:
                self._boards.send(self._history)
        self._saved = time.monotonic()

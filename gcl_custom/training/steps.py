"""One training step, the same wherever it is taken: by ``fit``, which trains, and by ``check``, which times it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from gcl_custom.errors import UserError
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training import fsdp
from gcl_custom.training.batches import Batch
from gcl_custom.training.devices import autocast


class Trainable(nn.Module, ABC):
    """A network with its loss, its optimizer and its schedule; it may look at itself now and then.

    Whatever training changes lies in its state or in the optimizer's. So a resumed run is exact.
    """

    evaluate_every: int = 1
    """Epochs between two evaluations; there is one after the last epoch too."""

    evaluate_first: bool = False
    """Whether there is an evaluation before the first step, too. It is the row of epoch 0 in the history."""
    says_epochs: bool = True
    """Whether evaluations print a line of figures. Where there are many short trainings, each says only its end."""

    recorded: Mapping[str, Tensor | float]

    @property
    def ended(self) -> bool:
        """Whether training stops at the end of an epoch although steps are left. It must follow from the state."""
        return False

    @property
    def last_epoch(self) -> int | None:
        """The epoch with which training ends, where the history has decided that it is earlier than asked for."""
        return None

    def evaluates(self, epoch: int) -> bool:
        """Whether there is an evaluation after an epoch, counted from 1."""
        return epoch % self.evaluate_every == 0

    def heed(self, history: Sequence[Mapping[str, float]]) -> None:
        """Called with the rows so far on every rank, after each epoch and when a training that was stopped goes on."""
        return

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def make_optimizer(self) -> Optimizer:
        """The optimizer, with its highest learning rate."""

    @abstractmethod
    def schedule(self, step: int) -> float:
        """The factor of the learning rate at a step of the whole run."""

    @abstractmethod
    def training_step(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss of a batch, with its graph."""

    def clip(self) -> None:
        """Cut gradients that are too large."""
        return

    def follow(self) -> None:
        """Move what follows the weights, after the optimizer's step."""
        return

    def record(self, figures: Mapping[str, Tensor | float]) -> None:
        """Keep the figures of a training step; the history has their mean over each epoch."""
        self.recorded = figures

    def large(self) -> fsdp.Large | None:
        """The networks that FSDP shares out, where the recipe asks for it."""
        return None

    def evaluate(self) -> dict[str, float]:
        """Figures to keep, computed on the first rank in evaluation mode, without gradients."""
        return {}

    def keep(self, figures: Mapping[str, float]) -> None:
        """Called on every rank after an evaluation, with its figures: what they decide is kept by all."""
        return

    def pictures(self) -> dict[str, Float[Tensor, "3 h w"]]:
        """Name -> RGB picture in [0, 1]."""
        return {}


class Steps:
    """Takes the training steps of a module.

    Args:
        module: moved to its device.
        stage: named where a loss or a gradient is not finite.
        checkpoint: the last good one, named there too.
    """

    def __init__(
        self, module: Trainable, fabric: Fabric, hardware: HardwareSettings, stage: str, checkpoint: Path | None = None
    ) -> None:
        self.module, self._fabric, self._hardware = module, fabric, hardware
        self._stage, self._checkpoint = stage, checkpoint
        self.large = module.large() if hardware.strategy == "fsdp" and fabric.world_size > 1 else None
        if self.large:
            fsdp.share_out(self.large, fabric.device)
            module.to(fabric.device)
        self._shared = module if self.large else fabric.setup_module(module)
        self.optimizer = module.make_optimizer()
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]

    def take(self, batch: Batch) -> None:
        """Forward, backward, the optimizer's step, and what follows it.

        Raises:
            UserError: the loss or the gradient is not finite. The weights are then as they were.
        """
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self.module.schedule(batch.step)
        # Without the cache each pass casts the weights anew, so the gradients of several passes add up in fp32.
        with autocast(self._hardware, self._fabric.device, cache=False):
            loss = self._shared.training_step(batch)
        self._require_finite("loss", loss, batch.step)
        self.optimizer.zero_grad()
        self._fabric.backward(loss)
        weights = (weight for group in self.optimizer.param_groups for weight in group["params"])
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self._require_finite("gradient", fsdp.whole(nn.utils.get_total_norm(gradients)), batch.step)
        self.module.clip()
        self.optimizer.step()
        self.module.follow()

    def _require_finite(self, what: str, value: Float[Tensor, ""], step: int) -> None:
        require_finite(what, value, step, self._stage, self._checkpoint)


def require_finite(what: str, value: Float[Tensor, ""], step: int, stage: str, checkpoint: Path | None = None) -> None:
    """Raise if a value is not finite, before anything is computed from it. The last good checkpoint stays.

    Args:
        what: names the value, such as "loss".
        step: of the whole training.
        stage: its name.
        checkpoint: named in the message if the file exists.

    Raises:
        UserError: the value is not finite.
    """
    if torch.isfinite(value):
        return
    kept = f"The last good checkpoint is {checkpoint}. " if checkpoint and checkpoint.exists() else ""
    raise UserError(
        f"{stage}: the {what} became {value.item()} at step {step}, so training stopped. {kept}"
        f"Lower the learning rate, or use --set hardware.precision=fp32, and start again with --redo"
    )

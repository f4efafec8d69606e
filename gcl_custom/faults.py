"""Training steps whose loss or gradient is not finite: they stop the training, or are left out without a trace.

A step that is left out changes no weight, no state of the optimizer and no buffer: running statistics, centres and
queues are put back as the step found them, and without gradients an optimizer changes nothing. Only the schedule of the
learning rate goes on, since it is a function of the step. All processes decide alike.
"""

from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from gcl_custom import console, processes
from gcl_custom.errors import UserError


class Faults:
    """Watches the steps of a training, which says when one begins, has its loss, and has its gradient.

    Args:
        name: of the stage, for messages.
        checkpoint: which a message names if it is there.
        most: so many steps may be left out; with 0 the first fault stops, and nothing is kept for the sake of others.

    Attributes:
        count: steps left out so far, in the whole run.
    """

    def __init__(self, name: str, checkpoint: Path, most: int) -> None:
        self.most, self.count = most, 0
        self._name, self._checkpoint, self._step = name, checkpoint, 0
        self._buffers: dict[str, Tensor] = {}
        self._loss = torch.zeros(())

    def begin(self, step: int, module: nn.Module) -> None:
        """Keep the buffers as the step finds them."""
        self._step = step
        if not self.most:
            return
        buffers = dict(module.named_buffers())
        if self._buffers.keys() != buffers.keys():
            self._buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        elif buffers:
            torch._foreach_copy_(list(self._buffers.values()), list(buffers.values()))

    def loss(self, loss: Tensor) -> None:
        """Stop at a loss that is not finite, before anything is computed from it.

        Raises:
            UserError: where no step may be left out.
        """
        # A step that may be left out goes on, since all processes have to, and is judged with its gradient.
        self._loss = loss.detach()
        if not self.most and not torch.isfinite(loss):
            self._stop(f"the loss became {loss.item()}")

    def gradient(self, norm: Tensor, module: nn.Module, optimizer: Optimizer) -> bool:
        """Judge the step by its gradient's norm and its loss; True where it has been undone and counted.

        Raises:
            UserError: where no further step may be left out.
        """
        fine = torch.isfinite(norm)
        if self.most:
            fine = processes.sum_over((~(fine & torch.isfinite(self._loss))).float()) == 0
        if fine:
            return False
        fault = "the loss of another process is not finite"
        for what, value in (("gradient", norm), ("loss", self._loss)):
            if not torch.isfinite(value):
                fault = f"the {what} became {value.item()}"
        if self.count == self.most:
            self._stop(f"{fault}, after {self.most} steps that were left out already," if self.most else fault)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(self._buffers[name])
        optimizer.zero_grad(set_to_none=True)
        self.count += 1
        console.warn(f"{self._name}: {fault} at step {self._step}; left out, {self.count} of at most {self.most}")
        return True

    def _stop(self, fault: str) -> NoReturn:
        kept = f"The last good checkpoint is {self._checkpoint}. " if self._checkpoint.exists() else ""
        raise UserError(
            f"{self._name}: {fault} at step {self._step}, so training stopped. {kept}"
            f"Lower the learning rate, or use --set hardware.precision=fp32, and start again with --redo"
        )

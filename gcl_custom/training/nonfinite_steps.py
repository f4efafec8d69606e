"""A loss or gradient that is not finite stops the training; the last good checkpoint stays."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gcl_custom.errors import UserError


def require_finite(what: str, value: Float[Tensor, ""], step: int, stage: str, checkpoint: Path | None = None) -> None:
    """Raise if a value is not finite, before anything is computed from it.

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

"""Which units for bf16 the processor has."""

from typing import Any

import torch


def has_units(*names: str) -> bool:
    """Whether torch finds one of these units, such as ``amx_bf16``, in the processor; older versions do not say."""
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(found.get(name) for name in names)

"""State dicts: written as safetensors, read from safetensors or from pickles of tensors and plain values.

A pickle from elsewhere may run code. So ``torch.load`` is called with ``weights_only=True``, which refuses everything
but tensors, plain values, and a few classes that public checkpoints mention. Before a state is loaded into a network,
every key and shape is compared, and a message names those that differ.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.files import UNREADABLE, write_atomically

SHOWN = 5
"""Number of faults that a message names. It counts the rest."""


def first_of(faults: Sequence[str]) -> str:
    """The first faults of a list, for a message, and the number of the others."""
    more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return f"{'; '.join(faults[:SHOWN])}{more}"


def save_weights(
    path: Path, weights: nn.Module | Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a state as safetensors, atomically. A tensor with two names (tied weights) is written under both."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    written: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, value in state.items():
        value = value.detach().cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        # safetensors refuses two names for the same memory.
        written[name] = value.clone() if storage in stored else value
        stored.add(storage)
    with write_atomically(path, sum(value.nbytes for value in written.values())) as part:
        save_file(written, part, dict(metadata) if metadata else None)


def load_weights(path: Path, module: nn.Module) -> None:
    """Load safetensors into a module.

    Raises:
        UserError: the file cannot be read, or does not fit the module.
    """
    fit_state(str(path), read_weights(path), module)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from None


def read_metadata(path: Path) -> dict[str, str]:
    """The texts that lie beside the tensors in a safetensors file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from None


def read_state(path: Path, where: str, keys: Sequence[str] = (), prefixes: Sequence[str] = ()) -> dict[str, Tensor]:
    """The state dict in a file from elsewhere: safetensors, or a pickle of tensors and plain values.

    Args:
        where: what names the file, such as a key of the recipe, for messages.
        keys: keys under which the state may be nested. Each that is found is followed, in this order.
        prefixes: removed from the front of the tensors' names, in this order.

    Raises:
        UserError: there is no such file, it holds more than tensors, or it holds no state.
    """
    if not path.is_file():
        raise no_weights(path, where)
    if path.suffix == ".safetensors":
        found: Any = read_weights(path)
    else:
        try:
            found = unpickle(path)
        except UserError as error:
            raise UserError(f"{where}: {path} {error}") from None
    for key in keys:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not any(isinstance(value, Tensor) for value in found.values()):
        held = ", ".join(map(_key, list(found)[:SHOWN])) if isinstance(found, dict) else type(found).__name__
        raise UserError(
            f"{where}: {path} holds no state dict, alone or under {' or '.join(keys) or 'a key'}, but: {held}"
        )
    state = {_key(name): value for name, value in found.items() if isinstance(value, Tensor)}
    for prefix in prefixes:
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _key(name: object) -> str:
    """A key of a pickle, as text. One that holds other values may stand for more of them than fit into any text."""
    plain = isinstance(name, str) or (isinstance(name, int) and abs(name) < 2**63)
    return str(name) if plain else f"a {type(name).__name__}"


def read_tensors(path: Path, where: str) -> dict[str, Tensor]:
    """Every named tensor of a file from elsewhere: safetensors, or a pickle of tensors and plain values.

    Where dicts lie in dicts, as in the checkpoints of trainers, names are joined: state_dict.backbone.conv1.weight.

    Args:
        where: what names the file, for messages.

    Raises:
        UserError: there is no such file, it holds more than tensors, or it holds no named tensor.
    """
    if not path.is_file():
        raise no_weights(path, where)
    if path.suffix == ".safetensors":
        return read_weights(path)
    try:
        found = unpickle(path)
    except UserError as error:
        raise UserError(f"{where}: {path} {error}") from None
    tensors: dict[str, Tensor] = {}
    waiting: list[tuple[str, Any]] = [("", found)]
    seen: set[int] = set()
    while waiting:
        prefix, inner = waiting.pop(0)
        if not isinstance(inner, dict) or id(inner) in seen:  # a file may hold a dict in itself
            continue
        seen.add(id(inner))
        named = {f"{prefix}{name}": value for name, value in inner.items() if isinstance(name, str)}
        tensors |= {name: value for name, value in named.items() if isinstance(value, Tensor)}
        waiting += [(f"{name}.", value) for name, value in named.items()]
    if not tensors:
        held = ", ".join(map(_key, list(found)[:SHOWN])) if isinstance(found, dict) else type(found).__name__
        raise UserError(f"{where}: {path} holds no state dict, alone or under a key, but: {held}")
    return tensors


def no_weights(path: Path | str, where: str) -> UserError:
    """The error for a missing file of weights."""
    return UserError(
        f"{where}: there are no weights at {path} (looked for from {Path.cwd()}). What a recipe needs, and where to "
        f"get it, says: gcl-custom weights RECIPE"
    )


class Ignored:
    """Stands in for an object that a trainer saved beside its tensors. It accepts any state and keeps none."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


IGNORED = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)
"""Classes that public checkpoints mention: options, scalars of numpy 1 and 2, and a key of old versions of Lightning.
None of them is imported or called, since only tensors are wanted: ``Ignored`` takes their place."""


def unpickle(path: Path) -> Any:
    """The tensors and plain values of a pickle. Tensors are memory-mapped where the format allows it.

    Raises:
        UserError: it names other classes, or is damaged. The text is to follow the file's path.
    """
    mapped = zipfile.is_zipfile(path)  # torch's older format cannot be mapped
    try:
        with torch.serialization.safe_globals([(Ignored, name) for name in IGNORED]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if name := _foreign(error):
            raise UserError(
                f"is a pickle that holds more than tensors (it names {name}), so it is not read: such a file may run "
                f"code. On a machine that trusts it, save its tensors alone, and give their file instead: python -c "
                f"\"import torch; found = torch.load('{path}', map_location='cpu', weights_only=False); "
                f"torch.save(found['state_dict'], 'tensors.pth')\" (in place of state_dict, the key of its tensors)"
            ) from None
        raise UserError("cannot be read as tensors: it is damaged, or another kind of file") from None
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise UserError(f"cannot be read as tensors: {reason}") from None


def _foreign(error: pickle.UnpicklingError) -> str:
    """The class that the pickle asked for, out of torch's message, whose rest advises to unpickle freely."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return found[1] if found else ""


def shape_of(source: str, found: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of one tensor of a state, for a network whose sizes are read from its weights.

    Raises:
        UserError: the tensor is missing, or has another number of dimensions.
    """
    if name not in found:
        raise UserError(f"{source} does not fit: missing {name}, from which a size of the network is read")
    shape = tuple(found[name].shape)
    if len(shape) != dimensions:
        raise UserError(f"{source} does not fit: {name} is {shape}, but should have {dimensions} dimensions")
    return shape


def numbered(found: Mapping[str, Tensor], prefix: str) -> int:
    """The number of layers under a prefix: one more than the highest number that follows it in the names."""
    numbers = [name.removeprefix(prefix).split(".")[0] for name in found if name.startswith(prefix)]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)


def fit_state(source: str, found: Mapping[str, Tensor], module: nn.Module) -> None:
    """Load a state into a module.

    Raises:
        UserError: keys are missing, surplus or of another shape, and the first are named.
    """
    wanted = module.state_dict()
    faults = [f"missing {name}" for name in wanted if name not in found]
    faults += [f"surplus {name}" for name in found if name not in wanted]
    faults += [
        f"{name} is {tuple(found[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    if faults:
        raise UserError(f"{source} does not fit {type(module).__name__}: {first_of(faults)}")
    module.load_state_dict(found)

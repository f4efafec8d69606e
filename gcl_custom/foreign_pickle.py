"""The tensors of a pickle from elsewhere, without running what it asks for.

A pickle is a program: it names functions and calls them. Here a name may mean a few harmless ones that tensors are
put together with, and whatever else it names is an inert stand-in that takes any call, state and item and does nothing.
So checkpoints that hold a trainer's objects beside their tensors give away the tensors alone.
"""

import collections
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.weights import save_weights

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys that a checkpoint's state may stand under; the first that is there is taken."""
EVERYTHING = "all"
REBUILDS = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"}
"""Functions of ``torch._utils`` that lay a tensor over a storage."""
FAULTS = (
    pickle.UnpicklingError, EOFError, OSError, RuntimeError, TypeError, ValueError, AttributeError, LookupError,
    AssertionError, ImportError, struct.error, ArithmeticError, tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
"""What a damaged or an ill-meant file may raise."""


class Inert:
    """Stands for any class or function: takes everything and does nothing."""

    dump_patches = False  # asked for where the old format checks a module's source

    def __new__(cls, *args: object, **kwargs: object) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, item: object) -> None: ...

    def extend(self, items: object) -> None: ...

    def add(self, item: object) -> None: ...


class Restricted:
    """Stands in for the module ``pickle`` where torch reads a checkpoint with it, and notes the names it refused."""

    __name__ = "restricted"

    def __init__(self) -> None:
        self.refused: set[str] = set()
        refused = self.refused

        class Unpickler(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                return _meaning(module, name, refused)

        self.Unpickler = Unpickler

    def load(self, file: Any, **options: Any) -> Any:
        return self.Unpickler(file, **options).load()


def _meaning(module: str, name: str, refused: set[str]) -> Any:
    """What a name in a pickle stands for. Storages are torch's own affair, which looks at their names before."""
    if module == "torch._utils" and name in REBUILDS:
        return getattr(torch._utils, name)
    if (module, name) == ("collections", "OrderedDict"):
        return collections.OrderedDict
    if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
        return found
    refused.add(f"{module}.{name}")
    return Inert


def read_foreign(path: Path) -> tuple[Any, set[str]]:
    """What a checkpoint holds, with inert stand-ins for all but plain values, dicts and tensors, and their names.

    Both of torch's formats are read, the archive and the older stream.

    Raises:
        UserError: it cannot be read as a checkpoint of torch.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path} (looked for from {Path.cwd()})")
    restricted = Restricted()
    try:
        if zipfile.is_zipfile(path) and any(n.endswith("/constants.pkl") for n in zipfile.ZipFile(path).namelist()):
            raise pickle.UnpicklingError("it is a TorchScript program, not a checkpoint")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", pickle_module=restricted, weights_only=False)
    except FAULTS as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"{path} cannot be read as a checkpoint of torch: {lines[0]}") from None
    return found, restricted.refused


def tensors_in(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dicts and lists, with the keys that lead to it, joined by dots."""
    yield from _tensors(value, (), frozenset())


def _tensors(value: Any, path: tuple[str, ...], above: frozenset[int]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield ".".join(path), value
        return
    if id(value) in above:  # a pickle may hold itself
        return
    inner: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Mapping):
        inner = iter(value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        inner = iter(enumerate(value))
    for key, item in inner:
        yield from _tensors(item, (*path, str(key)), above | {id(value)})


def convert(path: Path, out: Path, key: str | None = None) -> tuple[int, set[str]]:
    """Write the tensors of a checkpoint as safetensors, bit for bit, atomically.

    Args:
        key: what to take: the state under this key, or ``all``, with the keys in front of the names. Without it, the
            first of WRAPPERS that is there, and everything where none is.

    Returns:
        the number of tensors, and the names that the pickle asked for and did not get.

    Raises:
        UserError: it cannot be read, holds no tensor there, or ``out`` exists.
    """
    if out.exists():
        raise UserError(f"{out} exists already. Give another --out, or remove it")
    found, refused = read_foreign(path)
    held = list(map(str, found)) if isinstance(found, Mapping) else []
    if key is None:
        key = next((name for name in WRAPPERS if name in held and isinstance(found[name], Mapping)), EVERYTHING)
    elif key != EVERYTHING and key not in held:
        raise UserError(f"{path} has no {key!r}, but: {', '.join(held) or type(found).__name__}")
    taken: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors_in(found if key == EVERYTHING else found[key]):
        if name in taken:
            raise UserError(f"{path}: two tensors would both be named {name}. Take one part of it: --key PART")
        place = tensor.untyped_storage().data_ptr()
        taken[name] = tensor.detach().clone() if place in storages else tensor.detach()
        storages.add(place)
    if not taken:
        raise UserError(f"{path} holds no tensor{'' if key == EVERYTHING else f' under {key}'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_weights(out, taken)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise UserError(f"{out} cannot be written: {error}") from None
    return len(taken), refused

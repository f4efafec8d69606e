"""Look whether the weights that a recipe names are there, complete and readable, and show them as a table.

Files are read as safetensors, or as pickles of tensors and plain values, so no code in them runs. Nothing is fetched.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gcl_custom import tables
from gcl_custom.console import in_bytes
from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.weights import hub
from gcl_custom.weights.digests import place_of, sha256
from gcl_custom.weights.needed import Needed
from gcl_custom.weights.state_dicts import unpickle

STATED, ESTIMATED = 1.1, 2.0
"""Factors by which a file's size may differ from a stated size, and from an estimated one."""


@dataclass(frozen=True)
class Found:
    """What is at the place that a recipe names."""

    state: Literal["there", "missing", "damaged"]
    what: str
    """Text for the reader: the tensors, the parts of a folder, or what is wrong."""
    size: int = 0
    """Size in bytes."""
    path: Path | None = None

    @property
    def there(self) -> bool:
        return self.state == "there"


def look(need: Needed) -> Found:
    """Look at the weights at the place that the recipe names."""
    place = place_of(need)
    if place is None:
        return Found("missing", "")
    return _folder(place, need) if need.folder else _file(place, need)


def require_readable(need: Needed) -> None:
    """Check that a file of weights can be read, before work that reads it.

    Raises:
        UserError: it is damaged, or no file of weights.
    """
    path = None if need.folder else place_of(need)
    if path is None:
        return
    try:
        if _tensors(path):
            return
        problem = "holds no tensor"
    except (OSError, SafetensorError) as error:
        problem = f"cannot be read: {error}"
    except UserError as error:
        problem = str(error)
    raise UserError(f"{need.where}: {path} {problem}. Where to get it says: gcl-custom weights RECIPE")


def digest(need: Needed, found: Found) -> str:
    """The SHA-256 of a file that is there, and whether it is the published one."""
    if found.path is None or not found.path.is_file():
        return ""
    value, wanted = sha256(found.path), need.public.sha256 if need.public and need.exact else ""
    if not wanted:
        return f"{value} (none is published to compare with)"
    return f"{value} ({'as published' if value.startswith(wanted) else f'published: {wanted}...'})"


def _file(path: Path, need: Needed) -> Found:
    size = path.stat().st_size
    try:
        tensors = _tensors(path)
    except (OSError, SafetensorError) as error:
        return Found("damaged", f"cannot be read: {error}", size, path)
    except UserError as error:
        return Found("damaged", str(error), size, path)
    if not tensors:
        return Found("damaged", "holds no tensor", size, path)
    if need.exact and need.public and need.public.size:
        factor = ESTIMATED if need.public.estimated else STATED
        if not need.public.size / factor <= size <= need.public.size * factor:
            return Found("damaged", f"{in_bytes(size)}, published: {in_bytes(need.public.size)}", size, path)
    return Found("there", counted(tensors, "tensor"), size, path)


def _tensors(path: Path) -> int:
    """The number of tensors in a file. Errors of its readers are not caught here."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return len(file.keys())
    return _count(unpickle(path))


def _count(value: object) -> int:
    """The number of tensors in nested dicts and lists. One that stands in several places is looked into once."""
    tensors, waiting, seen = 0, [value], set[int]()
    while waiting:
        now = waiting.pop()
        tensors += isinstance(now, Tensor)
        if isinstance(now, dict | list | tuple) and id(now) not in seen:
            seen.add(id(now))
            waiting.extend(now.values() if isinstance(now, dict) else now)
    return tensors


def _folder(folder: Path, need: Needed) -> Found:
    """A pipeline of diffusers with its parts, or a model of transformers or timm. timm reads no config.json."""
    files = sorted(folder.rglob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    damaged = []
    for file in files:
        try:
            _tensors(file)
        except (OSError, SafetensorError):
            damaged.append(file.relative_to(folder).as_posix())
    if damaged:
        return Found("damaged", f"cannot be read: {', '.join(damaged)}", size, folder)
    if not files and (folder / hub.PICKLE).is_file():
        once = "gcl-custom weights RECIPE --download makes safetensors of it"
        return Found("damaged", f"only {hub.PICKLE}, which is not read; {once}", size, folder)
    index = folder / hub.INDEX
    if not index.is_file():
        if files and (folder / "config.json").is_file():
            return Found("there", "config.json, safetensors", size, folder)
        if need.public and need.public.choice == "timm" and (folder / hub.SAFE).is_file():
            return Found("there", "safetensors", size, folder)
        return Found("damaged", f"neither {hub.INDEX} nor config.json with safetensors", size, folder)
    try:
        about = json.loads(index.read_text(encoding="utf-8"))
        parts = [name for name, entry in about.items() if isinstance(entry, list) and entry[0] is not None]
    except (ValueError, AttributeError, IndexError):
        return Found("damaged", f"{hub.INDEX} cannot be read", size, folder)
    parts = [name for name in parts if name not in hub.UNUSED]
    lacking = [name for name in parts if not (folder / name).is_dir() or not any((folder / name).iterdir())]
    if lacking:
        return Found("damaged", f"lacks {', '.join(lacking)}", size, folder)
    if not files:
        return Found("damaged", "no safetensors; pickles are not read", size, folder)
    return Found("there", ", ".join(parts), size, folder)


# ---------------------------------------------------------------- what a person reads

COLUMNS = ("weights", "what", "size", "licence", "place", "state")


def show(found: Sequence[tuple[Needed, Found]]) -> None:
    """A table with a row for each of the weights."""
    tables.show(COLUMNS, [_row(need, state) for need, state in found])


def _row(need: Needed, found: Found) -> list[str]:
    public = need.public
    title = public.title if public else "own, or not known here"
    if public and not need.exact:
        title = f"{public.title}, or another of its kind"
    if public and public.pixels:
        title += f", {public.pixels} px"
    if public and public.parameters and need.exact:
        title += f", {public.parameters / 1e6:.0f} M parameters"
    licence = public.licence if public else "not known here"
    if public and not public.commercial:
        licence += ": NO COMMERCIAL USE"
    place = str(found.path or need.given)
    state = (
        f"{found.state}: {found.what.partition('. ')[0]}" if found.what else found.state
    )  # advice belongs into messages
    return [need.where, title, _size(need, found), licence, place, state]


def _size(need: Needed, found: Found) -> str:
    if found.size:
        return in_bytes(found.size)
    if need.public is None or need.public.size is None or not need.exact:
        return "not known"
    return f"{'about ' if need.public.estimated else ''}{in_bytes(need.public.size)}"

"""The index of a tile store, written and read as lists."""

from pathlib import Path
from typing import Any

import torch

from gcl_custom.imagery.tile_store import read_index, texts_in, write_index

TYPES = {"slots": torch.int64, "split": torch.int8, "places": torch.float64, "blocks": torch.int64}


def write_lists(folder: Path, about: dict[str, Any]) -> None:
    """Write an index from lists: what holds for all tiles beside what each tile has. Labels may be a tensor."""
    columns = {name: torch.tensor(about[name], dtype=kind) for name, kind in TYPES.items() if name in about}
    rest = {key: value for key, value in about.items() if key not in {*TYPES, "files", "labels"}}
    write_index(folder, rest, {"files": about["files"], "labels": torch.as_tensor(about["labels"]), **columns})


def read_lists(folder: Path) -> dict[str, Any]:
    """An index as ``write_lists`` takes it."""
    about, columns = read_index(folder)
    lists = {name: column.tolist() for name, column in columns.items() if name in {*TYPES, "labels"}}
    return {**about, "files": list(texts_in(columns, "files")), **lists}

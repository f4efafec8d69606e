"""What a name may be: of a recipe, a study and its axes, a run, a cell. Each becomes one folder, so none is a path."""

import hashlib
import re
from pathlib import Path

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Names that stand in recipes and studies."""
LONGEST = 200
"""Bytes; most file systems take 255."""


def is_folder_name(text: str) -> bool:
    """Whether this may be the folder of a run or a cell, such as quickstart or mask_probability=0.25,method=vicreg."""
    return re.fullmatch(r"[^\W_][\w.,=+ -]*", text) is not None and len(text.encode()) <= LONGEST


def folder_name(text: str) -> str:
    """A flat name for any text that begins with a letter: other signs, as in paths, become hyphens."""
    flat = re.sub(r"[^\w.,=+ -]+", "-", text)
    return (
        flat
        if len(flat.encode()) <= LONGEST
        else with_digest(flat.encode()[: LONGEST - 20].decode(errors="ignore"), text)
    )


def with_digest(name: str, text: str) -> str:
    """A name that differs wherever the text does."""
    return f"{name}-{hashlib.blake2b(text.encode(errors='backslashreplace'), digest_size=4).hexdigest()}"


def run_name(folder: Path) -> str:
    """A name for the run on a folder of images: the folder's own, with hyphens for signs that no recipe may have.

    That of a file, such as an archive, is its own without the suffix.
    """
    name = folder.resolve().name
    stem = name if folder.is_dir() else re.sub(r"(\.tar)?\.\w+$", "", name)
    flat = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")
    return flat[:LONGEST] or "images"

"""Digests of the weights that a recipe names, so that other weights under the same name are noticed.

A stage that was made with weights from elsewhere depends on their bytes, not on their place. So its settings, which the
fingerprint covers, contain the last part of the path or id and the SHA-256 of the content.

A digest is stored with the size and modification time of each file, and computed again if one of these changes. If the
weights are deleted later, the stored digest is used, so finished stages stay valid.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gcl_custom.console import say
from gcl_custom.recipe.pretraining import PACKAGED
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.weights.needed import Needed, needed

READ = (".safetensors", ".json", ".txt")
"""Suffixes of the files that diffusers and transformers read in a folder."""
LARGE = 10**9
"""Number of bytes above which a message says that they are being read, since it takes a while."""
DIGITS = 16
"""Length of a digest in settings: enough to tell files apart, and short enough to read."""
FileStamp = tuple[str, str, int, int]
"""Name below the folder (empty for a single file), path, size in bytes, and modification time in nanoseconds."""


def contents(recipe: Recipe, remembered: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Key of the recipe that names weights -> their name and digest; and the digests to remember for the next time.

    Weights that a package brings along are counted too.

    Args:
        remembered: the digests from the last time.

    Raises:
        UserError: a package of weights is not installed, and its digest is not remembered.
    """
    found: dict[str, str] = {}
    known = dict(remembered)

    def content(given: str, place: Path | None) -> str:
        before = known.get(given)
        if place is not None:
            files = _files(place)
            stamps = [list(file) for file in files]  # as they are read back from JSON
            if before is None or before["files"] != stamps:
                before = known[given] = {"files": stamps, "sha256": _digest(given, files)}
        what = f"SHA-256 {before['sha256'][:DIGITS]}" if before else "which is not there"
        return f"{Path(given).name}, {what}"

    for need in needed(recipe):
        found |= dict.fromkeys(need.keys, content(need.given, place_of(need)))
    for key, settings in recipe.pretrain.public_networks.items():
        if settings.start.name == "package":
            from gcl_custom.weights.starts import not_installed, packaged_file  # here, since torch takes long to import

            package, file = PACKAGED[settings.backbone], packaged_file(settings.backbone)
            if file is None and package not in known:
                raise not_installed(package)
            found[key] = content(package, file)
    return found, known


def require(need: Needed) -> None:
    """Check that weights are there, before work that reads them.

    Raises:
        UserError: they are not there, even if their digest is remembered.
    """
    if place_of(need) is None:
        from gcl_custom.weights.hub import no_model
        from gcl_custom.weights.state_dicts import no_weights

        raise (no_model if need.folder else no_weights)(need.given, need.where)


def place_of(need: Needed) -> Path | None:
    """The file or folder of weights at the place that the recipe names; None if there is none. Nothing is fetched."""
    if need.folder:
        from gcl_custom.weights.hub import local_folder

        return local_folder(need.given)
    path = Path(need.given).expanduser()
    return path if path.is_file() else None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(place: Path) -> tuple[FileStamp, ...]:
    """The file, or the files of a folder that are read. Hidden files belong to the hub's client."""
    if place.is_file():
        return (_file("", place),)
    names = [path.relative_to(place) for path in place.rglob("*") if path.suffix in READ and path.is_file()]
    return tuple(
        _file(name.as_posix(), place / name)
        for name in sorted(names)
        if not any(part.startswith(".") for part in name.parts)
    )


def _file(name: str, path: Path) -> FileStamp:
    state = path.stat()
    return name, str(path.resolve()), state.st_size, state.st_mtime_ns


@cache
def _digest(given: str, files: tuple[FileStamp, ...]) -> str:
    """The digest of a file, or of the names and digests of a folder's files."""
    if (size := sum(size for _, _, size, _ in files)) > LARGE:
        say(f"reading {given}, {size / 1e9:.1f} GB, once, to notice where it changes")
    if [name for name, *_ in files] == [""]:
        return sha256(Path(files[0][1]))
    lines = [f"{name} {sha256(Path(path))}\n" for name, path, _, _ in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()

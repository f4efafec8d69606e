"""What the weights hold that a recipe names, so that others under the same name are noticed.

A stage that was made with weights from elsewhere depends on their bytes, not on where they lie. So the settings that
its fingerprint covers have, in place of a path or an id, its last part and the SHA-256 of the content.

A digest is computed once: it is remembered with the size and the time of the last change of each file, and computed
anew where one of these is another. Of weights that are gone, what is remembered holds: what was made with them stays.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gcl_custom.console import say
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.weights.needed import Needed, needed

READ = (".safetensors", ".json", ".txt")
"""Endings of the files that are read of a folder of diffusers or transformers."""
LARGE = 10**9
"""Bytes above which reading them all is said, since it takes a while."""
DIGITS = 16
"""Of a digest, in settings; enough to tell files apart, and short enough to read."""
FileStamp = tuple[str, str, int, int]
"""Name below the folder (empty for a file alone), path, bytes, and nanoseconds of the last change."""


def contents(recipe: Recipe, remembered: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Key of the recipe that names weights -> what they hold; and what is to be remembered for the next time.

    Args:
        remembered: of the last time.
    """
    found: dict[str, str] = {}
    known = dict(remembered)
    for need in needed(recipe):
        place, before = place_of(need), known.get(need.given)
        if place is not None:
            files = _files(place)
            stamps = [list(file) for file in files]  # as JSON has them
            if before is None or before["files"] != stamps:
                before = known[need.given] = {"files": stamps, "sha256": _digest(need.given, files)}
        what = f"SHA-256 {before['sha256'][:DIGITS]}" if before else "which is not there"
        found |= dict.fromkeys(need.keys, f"{Path(need.given).name}, {what}")
    return found, known


def require(need: Needed) -> None:
    """Look whether weights are there, before work that reads them.

    Raises:
        UserError: they are not, whatever is remembered of them.
    """
    if place_of(need) is None:
        from gcl_custom.weights.hub import no_model
        from gcl_custom.weights.state_dicts import no_weights

        raise (no_model if need.folder else no_weights)(need.given, need.where)


def place_of(need: Needed) -> Path | None:
    """The file or the folder of weights, looked for where the recipe says; no network is used."""
    if need.folder:
        from gcl_custom.weights.hub import found

        return found(need.given)
    path = Path(need.given).expanduser()
    return path if path.is_file() else None


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(place: Path) -> tuple[FileStamp, ...]:
    """A file, or those of a folder that are read; hidden ones are a client's own."""
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
    """Of a file its own, of a folder that of the names and digests of its files."""
    if (size := sum(size for _, _, size, _ in files)) > LARGE:
        say(f"reading {given}, {size / 1e9:.1f} GB, once, to notice where it changes")
    if [name for name, *_ in files] == [""]:
        return sha256(Path(files[0][1]))
    lines = [f"{name} {sha256(Path(path))}\n" for name, path, _, _ in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()

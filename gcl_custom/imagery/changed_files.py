"""Whether files have changed since their tiles were packed."""

from contextlib import suppress
from itertools import chain
from pathlib import Path

from gcl_custom.errors import UserError
from gcl_custom.files import file_digest, json_digest, read_json, write_json
from gcl_custom.imagery.collections.collection_names import is_there
from gcl_custom.imagery.collections.open_collections import state_of, states_of_files
from gcl_custom.imagery.folders import Layout, layout_of
from gcl_custom.imagery.mask_files import mask_states
from gcl_custom.imagery.packing_journal import States, differences
from gcl_custom.recipe.file import card_of
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

SEEN = "seen.json"
"""Digest of the files as they were when tiles were packed, or last found to be the same: while it holds, none is
opened."""
SMALL = 2**20
"""Most bytes of a table or a list that is read to notice a change."""


def changed(run: Run) -> str | None:
    """Say how the files differ, by path, size and time of change, from those that were packed; None if they do not.

    A missing root does not count as a change, because later stages read packed tiles only. Tiles are only looked for
    again if some file has changed: to cut scenes, bring polygons onto them, list an archive or ask other machines takes
    long.
    """
    stage, data, root = plan.tiles(run), run.recipe.data, Path(run.recipe.data.root)
    if not stage.done or not is_there(root):
        return None
    kept = stage.path / SEEN
    try:
        seen = seen_files(data)
        if kept.is_file() and read_json(kept) == seen:
            return None
        layout = layout_of(data, card_of(data))
    except UserError as error:
        return f"the files in {root} have changed since they were packed, and could not be packed again ({error})"
    if listing(root, data, layout) == stage.facts["listing"]:
        with suppress(OSError):  # in a folder that cannot be written to, tiles are looked for each time
            write_json(kept, seen)
        return None
    return (
        f"the files in {root} have changed since they were packed: {differences(stage.path, root, data, layout.tiles)}"
    )


def seen_files(data: DataSettings) -> str:
    """Digest of what a layout is made from: the card, and path, size and time of change of each file below the root.

    Small tables and lists are read as well: an edit may leave their size and, on some disks, their time.

    Raises:
        UserError: the card has mistakes, or a file of a pattern is missing.
    """
    root = Path(data.root)
    named = [data.labels, *(data.split.lists.given.values() if data.split.lists else ())]
    texts = [_small(root / given) for given in named if given is not None]
    card = card_of(data)
    return json_digest([], [card and card.model_dump(), states_of_files(root), texts])


def _small(path: Path) -> str:
    """Digest of a file, or size and time of change of one that is large or cannot be read."""
    size, time = state_of(path)
    with suppress(OSError):
        if size <= SMALL and path.is_file():
            return file_digest(path)
    return f"{size} {time}"


def listing(root: Path, data: DataSettings, layout: Layout) -> str:
    """Digest of sources, their splits and labels, and the files' sizes and times of change."""
    state = States(root, data)
    seen = (((str(tile.source), tile.split, tile.label), state.of(tile.source)) for tile in layout.tiles)
    return json_digest([], chain(seen, mask_states(root, layout)))

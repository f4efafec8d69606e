"""The tiles that packing would find, and the files that it could not use."""

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from gcl_custom.check.estimates import FoundTiles
from gcl_custom.console import progress, say, warn
from gcl_custom.imagery import synthetic_scenes
from gcl_custom.imagery.decoding import Form, Unusable, reading, tile_from
from gcl_custom.imagery.folders import FoundFile, Layout, common_form, is_rgb, labels_of, layout_of
from gcl_custom.imagery.splits import divide
from gcl_custom.recipe.file import load_card
from gcl_custom.recipe.imagery import Card, DataSettings

MOST_READ = 4000
"""Files read whole; of more files, so many are read, spread evenly over the paths."""


def survey(data: DataSettings) -> FoundTiles:
    """Find the tiles and read files, as packing would; synthetic scenes that are not drawn yet are counted only.

    Raises:
        UserError: as packing would.
    """
    root = Path(data.root)
    card = load_card(data.card) if data.card else None
    if data.synthetic and not (root.is_dir() and any(root.iterdir())):
        say(f"data.root: {data.synthetic.tiles} synthetic scenes would be drawn into {root}")
        names = list(synthetic_scenes.CLASSES)
        files = [
            FoundFile(f"{number:05d}.tif", None, names[number % len(names)]) for number in range(data.synthetic.tiles)
        ]
        form = Form(4, "uint16") if data.synthetic.near_infrared else Form(3, "uint8")
        return _tiles(Layout(files, names, []), form, card, data)
    layout = layout_of(data, card)
    for note in layout.notes:
        warn(f"{root}: {note}")
    with reading():
        form = common_form(root, layout.files, card)
        bad = unusable(root, layout.files, form, data)
    usable = [file for file in layout.files if file.path not in bad]
    return _tiles(replace(layout, files=usable), form, card, data)


def _tiles(layout: Layout, form: Form, card: Card | None, data: DataSettings) -> FoundTiles:
    classes, labels = labels_of(layout.files, layout.classes, layout.kind)
    split = divide(layout.files, labels, layout.kind, data)
    return FoundTiles(form, is_rgb(card, form), classes, labels, layout.kind, split)


def unusable(root: Path, files: Sequence[FoundFile], form: Form, data: DataSettings) -> dict[str, Unusable]:
    """Path -> reason of the unusable ones among the files that are read; shown, too."""
    step = math.ceil(len(files) / MOST_READ)
    chosen = [file.path for file in files[::step]]
    with ThreadPoolExecutor() as pool, progress(len(chosen), "reading files", "files") as bar:
        bad: dict[str, Unusable] = {}
        for path, problem in pool.map(partial(_problem, root=root, form=form, data=data), chosen):
            if problem:
                bad[path] = problem
            bar.advance()
    read = f"all {len(chosen):,} files were read" if step == 1 else f"{len(chosen):,} of {len(files):,} files were read"
    kinds = ", ".join(
        f"{count} {kind}" for kind, count in Counter(problem.kind for problem in bad.values()).most_common()
    )
    if not bad:
        say(f"unusable files: none ({read})")
        return bad
    warn(f"unusable files: {len(bad)} ({kinds}; {read})")
    for path in sorted(bad)[:5]:
        say(f"  {path}: {bad[path]}")
    if len(bad) > data.bad_files * len(chosen):
        share = len(bad) / len(chosen)
        warn(f"packing would stop: {share:.0%} are unusable, and data.bad_files allows {data.bad_files:.0%}")
    return bad


def _problem(path: str, root: Path, form: Form, data: DataSettings) -> tuple[str, Unusable | None]:
    try:
        tile_from((root / path).read_bytes(), form, data.size, data.upscale, data.nodata)
    except Unusable as problem:
        return path, problem
    except OSError as error:
        return path, Unusable("cannot be opened", str(error.strerror))
    return path, None

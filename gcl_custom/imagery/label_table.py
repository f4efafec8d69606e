"""Labels and splits from a table: a CSV file in UTF-8 with one row a file.

    file,labels,split
    north/001.tif,forest;water,train
    north/002.tif,water,test

``file`` is relative to the data root; ``labels`` are names separated by semicolons; ``split`` may be left out, and is
then drawn by the recipe's shares. Files without a row train the generator and the backbone, and are scored nowhere.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import SPLITS, SplitName
from gcl_custom.measures.label_kinds import SEPARATOR

COLUMNS = ("file", "labels", "split")
SHOWN = 5
"""Most mistakes in one message."""


class LabelRow(NamedTuple):
    split: SplitName | None
    labels: str
    """Names in alphabetical order, joined by semicolons."""


def read_labels(path: Path, images: Sequence[str]) -> dict[str, LabelRow]:
    """The rows of a table, by file.

    Args:
        images: the files that there are, relative to the data root.

    Raises:
        UserError: naming the row of each mistake.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"data.labels: there is no file {path}. It is looked for in data.root") from None
    except UnicodeDecodeError as error:
        raise UserError(f"data.labels: {path} is no text in UTF-8 ({error.reason} at byte {error.start})") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip() for name in next(reader, [])]
    wrong = [f"unknown column {name!r}" for name in header if name not in COLUMNS]
    wrong += [f"no column {name!r}" for name in COLUMNS[:2] if name not in header]
    wrong += [f"column {name!r} twice" for name in COLUMNS if header.count(name) > 1]
    if wrong:
        raise UserError(
            f"data.labels: {path}, row 1: {', '.join(wrong)}. Columns are file, labels and, if wanted, split"
        )
    rows: dict[str, LabelRow] = {}
    places: dict[str, int] = {}
    faults: list[str] = []
    known = set(images)
    for cells in reader:
        if not cells:
            continue
        number = reader.line_num
        given = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        file = given.get("file", "").removeprefix("./")
        found = list(_faults(cells, header, given, file, known))
        if file in places:
            found.append(f"{file} stands in row {places[file]} already")
        faults += [f"row {number}: {fault}" for fault in found]
        places.setdefault(file, number)
        if not found:
            names = sorted({name.strip() for name in given["labels"].split(SEPARATOR)})
            split = next((name for name in SPLITS if name == given.get("split")), None)
            rows[file] = LabelRow(split, SEPARATOR.join(names))
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        shown = "".join(f"\n  {fault}" for fault in faults[:SHOWN])
        raise UserError(f"data.labels: {path} has mistakes, mend them and start again:{shown}{more}")
    if not rows:
        raise UserError(f"data.labels: {path} has no row with labels")
    return rows


def _faults(cells: list[str], header: list[str], given: dict[str, str], file: str, known: set[str]) -> Iterator[str]:
    if len(cells) != len(header):
        yield f"{len(cells)} cells under {len(header)} columns"
        return
    if file not in known:
        yield f"there is no image {file!r} in the data root"
    if not all(name.strip() for name in given["labels"].split(SEPARATOR)):
        yield f"an empty label in {given['labels']!r}"
    if "split" in header and given["split"] not in SPLITS:
        yield f"split {given['split']!r} is none of {', '.join(SPLITS)}"

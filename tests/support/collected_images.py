"""The images of a folder in each form of a collection."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image


def files_below(folder: Path) -> dict[str, bytes]:
    """The bytes of all files below a folder by their relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def zipped(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar, or by its name one in gzip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def png(value: int, side: int = 8) -> bytes:
    """A grey picture of one value."""
    written = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(written, "PNG")
    return written.getvalue()


def parquet(
    path: Path, pictures: Sequence[bytes | None], labels: Sequence[Any], feature: Any = None, rows: int = 5
) -> Path:
    """A file as ``datasets`` writes it, with the columns image and label.

    Args:
        feature: what the metadata say of the label.
        rows: of a row group.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": content, "path": f"{number}.png"} for number, content in enumerate(pictures)]
    table = pa.table(
        {
            "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array(labels),
        }
    )
    about = {"info": {"features": {"image": {"_type": "Image"}, **({"label": feature} if feature else {})}}}
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(about)}), path, row_group_size=rows
    )
    return path

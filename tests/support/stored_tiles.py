"""A small store of random tiles."""

from pathlib import Path

import numpy as np
from written_index import write_lists

from gcl_custom.imagery.tile_store import TileStore


def tile_store(folder: Path, dtype: str = "uint8", tiles: int = 15) -> TileStore:
    """Tiles of 2 bands and 16 px; every third one is a test tile."""
    folder.mkdir(parents=True)
    np.random.default_rng(0).integers(0, 200, (tiles, 2, 16, 16)).astype(dtype).tofile(folder / "tiles-00000.bin")
    about = {
        "dtype": dtype, "bands": 2, "size": 16, "rgb": False, "classes": [], "labels": [-1] * tiles,
        "files": [f"{number}.tif" for number in range(tiles)], "slots": list(range(tiles)), "low": [0, 0],
        "high": [255, 255], "multi_label": False, "split": [2 if number % 3 == 2 else 0 for number in range(tiles)],
    }  # fmt: skip
    write_lists(folder, about)
    return TileStore(folder)

"""Memory and speed of packing a scene, by its size: a scene is read window by window, so its size must not matter.

    python -m benchmarks.scenes [SIDE]

A GeoTIFF of SIDE x SIDE px (20,000 without it), four bands of uint8 in compressed blocks of 512 px, is drawn and packed
in windows of 64 px, in a process of its own. So is one of half the side, a quarter of the pixels. The largest private
memory is stated, which is to stay below 1 GB, and tiles a second. Pages of mapped files are not counted, since the
system takes them back when it needs them.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.memory_of import LOOK, private
from benchmarks.record import Row

SIDE, BLOCK, TILE = 20_000, 512, 64
MOST_MB = 1000.0


def draw(path: Path, side: int) -> None:
    """Draw a scene block by block. Blocks repeat a few patterns, so that it is quick and small."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(1, 255, (8, 4, BLOCK // 16, BLOCK // 16), dtype=np.uint8).repeat(16, 2).repeat(16, 3)
    about: dict[str, Any] = {"driver": "GTiff", "width": side, "height": side, "count": 4, "dtype": "uint8"}
    blocks: dict[str, Any] = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
    stored: dict[str, Any] = {**blocks, "compress": "deflate", "zlevel": 1, "photometric": "minisblack", "alpha": "no"}
    ground: dict[str, Any] = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5.5e6)}
    with rasterio.open(path, "w", **about, **stored, **ground) as scene:
        for row in range(0, side, BLOCK):
            for column in range(0, side, BLOCK):
                block = patterns[(row // BLOCK * 3 + column // BLOCK) % 8] + np.uint8(row // BLOCK + column // BLOCK)
                height, width = min(BLOCK, side - row), min(BLOCK, side - column)
                scene.write(block[:, :height, :width], window=Window(column, row, width, height))


def packed(folder: str) -> dict[str, float]:
    """Pack the scenes of a folder; tiles and seconds."""
    from gcl_custom.imagery import pack_tiles
    from gcl_custom.imagery.tile_store import TileStore
    from gcl_custom.recipe.imagery import DataSettings, ScenesSettings
    from gcl_custom.recipe.recipe import Recipe
    from gcl_custom.runs import plan
    from gcl_custom.runs.run import Run

    data = DataSettings(root=f"{folder}/scenes", size=TILE, scenes=ScenesSettings(sameness=1.0))
    run = Run(Path(folder) / "run", Recipe(name="scenes", data=data))
    began = time.perf_counter()
    pack_tiles.pack_tiles(run)
    seconds = time.perf_counter() - began
    return {"tiles": TileStore(plan.tiles(run).path).count, "seconds": seconds}


def in_a_process(side: int) -> dict[str, float]:
    """Draw a scene, and pack it in a process of its own; also the bytes of that at its largest."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scenes").mkdir()
        draw(Path(folder) / "scenes" / "scene.tif", side)
        code = f"import json; from benchmarks.scenes import packed; print(json.dumps(packed({folder!r})))"
        with (Path(folder) / "said").open("w+") as said:
            process, largest = subprocess.Popen([sys.executable, "-c", code], stdout=said), 0
            while process.poll() is None:
                largest = max(largest, private(process.pid))
                time.sleep(LOOK)
            assert process.returncode == 0
            said.seek(0)
            found: dict[str, float] = json.loads(said.readlines()[-1])
    return {**found, "bytes": largest}


def rows(side: int = SIDE) -> list[Row]:
    """One row with name, ratio, target and detail."""
    half, whole = in_a_process(side // 2), in_a_process(side)
    detail = (
        f"{whole['tiles']:,.0f} tiles, {whole['tiles'] / whole['seconds']:,.0f} a second; "
        f"{half['bytes'] / 1e6:,.0f} MB for one of half the side"
    )
    name = f"memory of packing a scene of {side:,} px"
    return [Row(name=name, ratio=whole["bytes"] / 1e6, unit="MB", target=MOST_MB, most=True, detail=detail)]


if __name__ == "__main__":
    for found in rows(*map(int, sys.argv[1:])):
        print(f"{found['name']}: {found['ratio']:.0f} MB. {found['detail']}")

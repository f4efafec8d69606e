"""Tiles a second read in batches from the tile store, against ImageFolder with PIL.

    python -m benchmarks.reading [FOLDER]

Both give shuffled batches of uint8 tiles of one size, in one process and in turn. The folder holds class folders of
images; without one, JPEG files of 350 px are drawn. Packing happens once in a run, so its time is stated beside the
ratio and is not in it.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from torchvision.transforms import v2

from benchmarks.pretraining import scenes, write_jpegs
from benchmarks.record import Row
from benchmarks.steps import CPU, in_turn, row
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.stopwatch import Stopwatch

TARGET = 8.0
BATCH = 128
DRAWN, DRAWN_PIXELS = 300, 350


def rows(folder: Path | None = None, size: int = 128, rounds: int = 3) -> list[Row]:
    """One row with name, ratio, target and detail."""
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            folder = Path(temporary) / "images"
            write_jpegs(scenes(DRAWN, DRAWN_PIXELS), folder)
        run = Run(Path(temporary) / "run", Recipe(name="reading", data=DataSettings(root=str(folder), size=size)))
        start = time.perf_counter()
        pack_tiles.pack_tiles(run)
        packing = time.perf_counter() - start
        store = TileStore(plan.tiles(run).path)
        resize = v2.Compose([v2.Resize(size), v2.CenterCrop(size), v2.PILToTensor()])
        images = torchvision.datasets.ImageFolder(str(folder), transform=resize)
        count = min(store.count, 10 * BATCH)

        def packed() -> int:
            order = torch.randperm(store.count)[:count]
            return sum(len(store.read(index)) for index in order.split(BATCH))

        def files() -> int:
            some = torch.utils.data.Subset(images, torch.randperm(len(images))[:count].tolist())
            return sum(len(tiles) for tiles, _ in torch.utils.data.DataLoader(some, batch_size=BATCH))

        seconds = in_turn({"packed": packed, "files": files}, rounds, Stopwatch(CPU))
    found = row(f"reading, {size} px, against ImageFolder with PIL", seconds, count, "tiles", TARGET)
    found["detail"] += f"; packing {store.count} files took {packing:.1f} s"
    return [found]


if __name__ == "__main__":
    for line in rows(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(f"{line['name']}: {line['ratio']:.1f} times (target {line['target']:g}); {line['detail']}")

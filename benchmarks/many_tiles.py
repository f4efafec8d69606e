"""What the number of tiles costs: memory and time of a stage at 1,000, 10,000 and 100,000 tiles of 32 px.

    python -m benchmarks.many_tiles [JOB ...]

Each job has a process of its own. It is done once with few tiles, so that libraries are loaded and buffers of a batch
are there, and then with each count, in a copy of that process. What it takes beyond that is the largest private memory:
pages of mapped files are not counted, since the system takes them back when it needs them. Time is the processor's, so
other load on the machine matters little. Stores hold the pixels of a thousand tiles, over and over; files to be packed
all differ.
"""

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.memory_of import LOOK, private
from benchmarks.record import Row
from gcl_custom.export.embed import embed
from gcl_custom.files import read_json, write_json
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.shards.shard_files import shard_name
from gcl_custom.imagery.tile_store import INDEX, TileStore, write_index
from gcl_custom.pretraining.pretrain import pretrain
from gcl_custom.recipe.evaluation import CompareSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.pretraining import HandcraftedSettings, PretrainSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.steps import Steps
from gcl_custom.views.view_store import ViewStore, ViewWriter

COUNTS, MILLION, FEW = (1_000, 10_000, 100_000), 1_000_000, 1_024
SIDE, STEPS, BATCH = 32, 10, 64
SECONDS = 1.0
"""Goal for a store of a million tiles to open."""
BYTES = 64.0
"""Goal for the memory that each tile more takes: a few numbers."""
SLOWER = 1.2
"""Goal for the time of a tile among ten times as many."""
READY, DONE = "ready.json", "done.json"


class Taken(NamedTuple):
    """What a job took."""

    memory: int
    """Bytes at the most, beyond those that it began with."""
    seconds: float
    """Of the processor."""
    wall: float


def images(folder: Path, count: int) -> Path:
    """A stack of so many tiles that all differ."""
    if folder.is_dir():
        return folder
    folder.mkdir(parents=True)
    stack = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3))
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        part = stack[start : start + 1000]
        part[:] = rng.integers(0, 256, part.shape, np.uint8)
    stack.flush()
    return folder


def store(folder: Path, count: int) -> TileStore:
    """A store of so many tiles, seven tenths of them for training."""
    if (folder / INDEX).is_file():
        return TileStore(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = min(count, 1000)
    np.random.default_rng(0).integers(0, 256, (kept, 3, SIDE, SIDE), np.uint8).tofile(folder / shard_name(0))
    numbers = torch.arange(count)
    about = {
        "dtype": "uint8", "bands": 3, "size": SIDE, "rgb": True, "low": [0] * 3, "high": [255] * 3,
        "classes": [f"class {number}" for number in range(10)], "multi_label": False,
    }  # fmt: skip
    write_index(folder, about, {
        "files": [f"a_folder/of_some_name/tile_{number:07d}.png" for number in range(count)],
        "slots": numbers % kept, "labels": numbers % 10,
        "split": torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 2, 2], dtype=torch.int8)[numbers % 10],
    })  # fmt: skip
    return TileStore(folder)


def run_on(folder: Path, root: Path) -> Run:
    """A run whose pretraining is small."""
    small = PretrainSettings(
        backbone="test_resnet", batch=BATCH, epochs=1, crop_size=SIDE, handcrafted=HandcraftedSettings(crop=(0.5, 1.0))
    )
    return Run(
        folder,
        Recipe(
            name=folder.name,
            data=DataSettings(root=str(root), size=SIDE),
            pretrain=small,
            compare=CompareSettings(seeds=[0]),
            hardware=HardwareSettings(accelerator="cpu", precision="fp32"),
        ),
    )


def opening(folder: Path, count: int) -> Callable[[], object]:
    """Open a store, and ask for a split, a file and a batch."""
    store(folder / "store", count)

    def job() -> object:
        opened = TileStore(folder / "store")
        return opened.index("train"), opened.sources[-1], opened.read(torch.arange(BATCH))

    return job


def packing(folder: Path, count: int) -> Callable[[], object]:
    """Pack a stack of arrays."""
    run = run_on(folder / "run", images(folder / "images", count))
    return lambda: pack_tiles.pack_tiles(run)


def pretraining(folder: Path, count: int) -> Callable[[], object]:
    """The first steps of a pretraining."""
    run = run_on(folder / "run", folder)
    stage = plan.tiles(run)
    if not stage.done:
        stage.begin()
        store(stage.path, count)
        stage.finish(listing="")
    take, taken = Steps.take, 0

    class Enough(Exception):  # noqa: N818
        """So many steps were taken."""

    def counting(steps: Steps, batch: object) -> None:
        nonlocal taken
        take(steps, batch)  # type: ignore[arg-type]
        taken += 1
        if taken == STEPS:
            raise Enough

    def job() -> None:
        Steps.take = counting  # type: ignore[assignment, method-assign]
        try:
            pretrain(run, "handcrafted", 0)
        except Enough:
            pass
        finally:
            Steps.take = take  # type: ignore[method-assign]

    return job


def views(folder: Path, count: int) -> Callable[[], object]:
    """Write the views of all training tiles block by block, each a mirrored tile, and read some."""
    tiles = store(folder / "store", count)
    (folder / "views").mkdir(exist_ok=True)

    def job() -> object:
        writer = ViewWriter(folder / "views", tiles, 1, BATCH)
        for number in writer.pending:
            writer.keep(number, writer.made(number, lambda some, _: (tiles.read(some).flip(3), 0.0)))
        made = ViewStore(folder / "views")
        return made.read(writer.tiles[-BATCH:], torch.zeros(BATCH, dtype=torch.int64))

    return job


def embedding(folder: Path, count: int) -> Callable[[], object]:
    """Embed a stack of arrays by a backbone that was pretrained on few tiles."""
    run = run_on(folder / "run", images(folder / "few", FEW))
    pack_tiles.pack_tiles(run)
    pretrain(run, "handcrafted", 0)
    root = images(folder / "images", count)
    return lambda: embed(run, root, folder / "out.parquet", "handcrafted", 0)


STEADY = ("opening",)
"""Jobs whose time is none of their tiles."""
JOBS = {"opening": opening, "packing": packing, "pretraining": pretraining, "views": views, "embedding": embedding}


def job(name: str, folder: Path, counts: Sequence[int]) -> None:
    """What a measured process does: the job with few tiles; then, in a copy of the process for each count, with these.

    A copy leaves two files: READY with its memory before the job, and DONE with its seconds.
    """
    JOBS[name](folder / "few", FEW)()
    gc.collect()
    for count in counts:
        if not (copy := os.fork()):
            place = folder / str(count)
            measured = JOBS[name](place, count)
            gc.collect()
            write_json(place / READY, [private(), os.getpid()])
            began, spent = time.perf_counter(), time.process_time()
            kept = measured()
            write_json(place / DONE, [time.process_time() - spent, time.perf_counter() - began])
            del kept
            os._exit(0)
        if os.waitpid(copy, 0)[1]:
            raise SystemExit(1)


def taken(name: str, counts: Sequence[int]) -> list[Taken]:
    """Measure a job with so many tiles, in processes of its own."""
    code = f"from pathlib import Path; from benchmarks.many_tiles import job; job({name!r}, Path(FOLDER), {counts!r})"
    with tempfile.TemporaryDirectory() as temporary, (Path(temporary) / "said").open("w") as said:
        folder, most = Path(temporary), dict.fromkeys(counts, 0)
        for count in (FEW, *counts):  # made here, so as to leave nothing in the processes
            JOBS[name](folder / (str(count) if count != FEW else "few"), count)
        with subprocess.Popen(
            [sys.executable, "-c", code.replace("FOLDER", repr(temporary))],
            stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as process:  # fmt: skip
            while process.poll() is None:
                for count in counts:
                    if (folder / str(count) / READY).is_file() and not (folder / str(count) / DONE).is_file():
                        most[count] = max(most[count], private(read_json(folder / str(count) / READY)[1]))
                time.sleep(LOOK)
        if process.returncode:
            raise RuntimeError(f"{name}: {(folder / 'said').read_text()[-2000:]}")
        return [
            Taken(
                max(0, most[count] - read_json(folder / str(count) / READY)[0]), *read_json(folder / str(count) / DONE)
            )
            for count in counts
        ]


def of(name: str, counts: Sequence[int] = COUNTS) -> Iterator[Row]:
    """The rows of a job: what each tile more takes of memory, and whether time grows in proportion."""
    found = taken(name, counts)
    memory = ", ".join(f"{count:,}: {one.memory / 1e6:,.1f} MB" for count, one in zip(counts, found, strict=True))
    more = max(0, found[-1].memory - found[0].memory) / (counts[-1] - counts[0])
    yield Row(
        name=f"{name}, memory of each tile more", ratio=more, target=BYTES, detail=memory, unit="bytes", most=True
    )
    if name in STEADY:
        return
    what = "step" if name == "pretraining" else "tile"
    each = [one.seconds / (STEPS if what == "step" else count) for count, one in zip(counts, found, strict=True)]
    times = ", ".join(f"{count:,}: {1e3 * one:.3g} ms" for count, one in zip(counts, each, strict=True))
    yield Row(
        name=f"{name}, time of a {what} with {counts[-1]:,} tiles against {counts[-2]:,}",
        ratio=each[-1] / each[-2], target=SLOWER, detail=f"{times}; processor time", most=True,
    )  # fmt: skip


def rows() -> Iterator[Row]:
    """The rows of all jobs, and how fast a store of a million tiles opens."""
    (million,) = taken("opening", (MILLION,))
    detail = f"{million.memory / 1e6:,.1f} MB of memory; with a split, the last file's name and a batch"
    name = "a store of a million tiles opens"
    yield Row(name=name, ratio=million.wall, target=SECONDS, detail=detail, unit="s", most=True)
    for name in JOBS:
        yield from of(name)


if __name__ == "__main__":
    for line in (row for name in sys.argv[1:] for row in of(name)) if sys.argv[1:] else rows():
        unit = line.get("unit", "times")
        print(f"{line['name']}: {line['ratio']:.3g} {unit} (goal {line['target']}). {line['detail']}", flush=True)

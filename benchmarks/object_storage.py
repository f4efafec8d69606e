"""Packed tiles in object storage: pushing them with several uploads at a time, and batches read from there.

    python -m benchmarks.object_storage [ROUNDS]

moto's server of S3 runs in a process of its own, on this machine, and answers like one that is far away: each request
waits, and each connection carries so many bytes a second. Time is the clock's. Batches are read by one process as fast
as it can, without a training step between them that would hide what is being fetched; in the first epoch all shards are
fetched, in the second all lie in the cache.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.many_tiles import images, run_on
from benchmarks.record import Row
from gcl_custom.export import push_tiles
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.store import StoreSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batches

WAIT, RATE = 0.03, 50e6
"""Seconds that a request waits, and bytes a second of a connection."""
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
TILES, SHARD_MB, BATCH = 20_000, 2.0, 128


def serve() -> None:
    """Serve until the process is ended. The first line that is printed is the address."""
    from moto.moto_server import threaded_moto_server as servers
    from moto.server import ThreadedMotoServer

    make = servers.make_server

    def far(host: str, port: int, app: Any, *rest: Any, **options: Any) -> Any:
        def answer(environ: dict[str, Any], start: Any) -> list[bytes]:
            time.sleep(WAIT + int(environ.get("CONTENT_LENGTH") or 0) / RATE)
            body = b"".join(app(environ, start))
            time.sleep(len(body) / RATE)
            return [body]

        return make(host, port, answer, *rest, **options)

    servers.make_server = far
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    while True:
        time.sleep(60)


@contextmanager
def bucket() -> Iterator[str]:
    """The address of an empty bucket, which every client of this process finds."""
    code = "from benchmarks.object_storage import serve; serve()"
    before, root = dict(os.environ), Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout
        try:
            os.environ |= {**KEYS, "AWS_ENDPOINT_URL": server.stdout.readline().strip()}
            import fsspec

            fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
            yield "s3://bucket"
        finally:
            os.environ.clear()
            os.environ.update(before)
            server.kill()


def pushed(run: Run, address: str, uploads: int) -> float:
    """Seconds of a push with so many uploads at a time."""
    usual, began = push_tiles.UPLOADS, time.perf_counter()
    push_tiles.UPLOADS = uploads
    try:
        push_tiles.push_tiles(run, address, SHARD_MB, overwrite=False)
    finally:
        push_tiles.UPLOADS = usual
    return time.perf_counter() - began


def epochs(run: Run, count: int = 2) -> list[float]:
    """Milliseconds of a batch in each epoch."""
    store, taken = TileStore(plan.tiles(run).path), list[float]()
    batches = Batches(store.index("train"), BATCH, 0, store.read, store)
    for _ in range(count):
        began = time.perf_counter()
        for _ in batches:
            pass
        taken.append(1000 * (time.perf_counter() - began) / len(batches))
    return taken


def rows(rounds: int = 3) -> list[Row]:
    """A row for pushing and one for each of two epochs."""
    usual = push_tiles.UPLOADS
    one, several, read = list[float](), list[float](), list[list[float]]()
    with tempfile.TemporaryDirectory() as temporary, bucket() as address:
        folder = Path(temporary)
        run = run_on(folder / "run", images(folder / "images", TILES))
        pack_tiles.pack_tiles(run)
        pushed(run, f"{address}/first", usual)  # warms up
        for number in range(rounds):
            one.append(pushed(run, f"{address}/one-{number}", 1))
            several.append(pushed(run, f"{address}/several-{number}", usual))
            there = StoreSettings(address=f"{address}/several-{number}", cache=str(folder / f"cache-{number}"))
            data = run.recipe.data.model_copy(update={"store": there})
            far = Run(folder / f"streamed-{number}", run.recipe.model_copy(update={"data": data}))
            pack_tiles.pack_tiles(far)
            read.append([*epochs(far), *epochs(run, 1)])
    first, second, disk = (statistics.median(times) for times in zip(*read, strict=True))
    each = f"{1000 * WAIT:.0f} ms a request, {RATE / 1e6:.0f} MB/s a connection, shards of {SHARD_MB:g} MB"
    return [
        Row(
            name=f"push, {usual} shards at a time against one",
            ratio=statistics.median(a / b for a, b in zip(one, several, strict=True)),
            target=None,
            detail=f"{statistics.median(several):.2f} against {statistics.median(one):.2f} s, {TILES:,} tiles; {each}",
        ),
        *(
            Row(
                name=f"a batch from object storage, {what}",
                ratio=taken,
                unit="ms",
                target=None,
                detail=f"{BATCH} tiles; {disk:.2f} ms from a disk; {each}",
            )
            for what, taken in (("nothing fetched yet", first), ("all fetched", second))
        ),
    ]


if __name__ == "__main__":
    for line in rows(*map(int, sys.argv[1:])):
        print(f"{line['name']}: {line['ratio']:.3g} {line.get('unit', 'times')}. {line['detail']}")

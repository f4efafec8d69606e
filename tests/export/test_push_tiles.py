import shlex
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from time import sleep

import pytest
import torch
from command_line import COMMAND, environment
from dying import dies_at
from masked_tiles import draw
from object_store import BUCKET, SMALL, ObjectStore
from small_images import class_folders

from gcl_custom.errors import UserError
from gcl_custom.export.push_tiles import UPLOADS, push_tiles
from gcl_custom.files import file_digest
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.shards.object_storage import ObjectStorage
from gcl_custom.imagery.tile_store import SPLITS, TileStore
from gcl_custom.recipe.file import load_recipe
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.store import StoreSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

TILE_BYTES = 3 * 16 * 16
FOUR = 4 * TILE_BYTES / 1e6
"""Megabytes of four tiles."""


def packed(folder: Path, root: Path) -> Run:
    run = Run(folder / "here", Recipe(name="here", data=DataSettings(root=str(root), size=16)))
    pack_tiles.pack_tiles(run)
    return run


def elsewhere(folder: Path, address: str, **store: object) -> Run:
    """A run on another machine, without the files."""
    settings = StoreSettings(address=address, cache=str(folder / "cache"), **store)
    return Run(folder / "there", Recipe(name="there", data=DataSettings(root="gone", size=16, store=settings)))


@pytest.mark.parametrize("masks", [False, True])
def test_what_was_pushed_is_what_was_packed(tmp_path: Path, masks: bool) -> None:
    run = packed(tmp_path, draw(tmp_path / "root", 24) if masks else class_folders(tmp_path / "root", 24))
    address = f"file://{tmp_path}/shared"
    push_tiles(run, address, FOUR, overwrite=False)
    there = elsewhere(tmp_path, address)
    pack_tiles.pack_tiles(there)
    old, new = (TileStore(plan.tiles(one).path) for one in (run, there))
    assert new.streamed is not None
    assert max(path.stat().st_size for path in (tmp_path / "shared" / "shards").iterdir()) <= FOUR * 1e6
    number = {str(source): place for place, source in enumerate(old.sources)}
    same = torch.tensor([number[str(source)] for source in new.sources])
    assert sorted(same.tolist()) == list(range(24))
    every = torch.arange(24)
    assert torch.equal(new.read(every), old.read(same))
    assert torch.equal(new.targets(every), old.targets(same))
    assert torch.equal(new.split, old.split[same])
    torch.testing.assert_close(new.moments, old.moments)
    assert new.watched(2).tolist() == new.index("valid")[:2].tolist(), "few shards are fetched for a few tiles"
    assert (new.classes, new.low.tolist(), new.high.tolist()) == (old.classes, old.low.tolist(), old.high.tolist())
    assert plan.tiles(there).facts["tiles"] == plan.tiles(run).facts["tiles"]
    for split in SPLITS:  # in shards of its own, and in another order than that of the files
        tiles = new.index(split)
        assert torch.equal(tiles, torch.arange(int(tiles[0]), int(tiles[-1]) + 1))
    assert not torch.equal(same[new.index("train")], old.index("train"))


def test_the_command_that_takes_them_can_be_typed_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"file://{tmp_path}/our tiles"
    push_tiles(packed(tmp_path, class_folders(tmp_path / "root", 24)), address, 1.0, overwrite=False)
    words = shlex.split(capsys.readouterr().out.replace("\n", "").partition("anywhere: ")[2])
    assert words[-1] == f"data.store.address={address}"


def test_a_second_push_writes_no_shard_again_and_replaces_only_if_the_user_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = packed(tmp_path, class_folders(tmp_path / "root", 24))
    address = f"file://{tmp_path}/shared"
    push_tiles(run, address, FOUR, overwrite=False)
    written = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "shared/shards").iterdir()}
    with pytest.raises(UserError, match=r"holds packed tiles already\. Add --overwrite"):
        push_tiles(run, address, FOUR, overwrite=False)
    push_tiles(run, address, FOUR, overwrite=True)
    assert written == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in written}
    assert f"{len(written)} of them there before" in capsys.readouterr().out
    there = elsewhere(tmp_path, address)
    with pytest.raises(UserError, match=r"no packed tiles of its own\. Pack them where the files are"):
        push_tiles(there, address, FOUR, overwrite=True)


def whole(run: Run, folder: Path, address: str) -> int:
    """See to it that a store was pushed whole, and give the number of its shards."""
    there = elsewhere(folder, address)
    pack_tiles.pack_tiles(there)
    old, new = (TileStore(plan.tiles(one).path) for one in (run, there))
    number = {str(source): place for place, source in enumerate(old.sources)}
    same = torch.tensor([number[str(source)] for source in new.sources])
    assert torch.equal(new.read(torch.arange(len(new))), old.read(same))
    assert new.streamed is not None
    return len(new.streamed)


def test_several_shards_are_uploaded_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, address = packed(tmp_path, class_folders(tmp_path / "root", 60)), f"file://{tmp_path}/shared"
    real, together, begun, ended = ObjectStorage.write, Barrier(UPLOADS), list[str](), list[str]()

    def write(storage: ObjectStorage, name: str, content: bytes) -> None:
        begun.append(name)
        assert len(begun) - len(ended) <= UPLOADS
        if len(begun) <= UPLOADS:
            together.wait(60)
        real(storage, name, content)
        ended.append(name)

    monkeypatch.setattr(ObjectStorage, "write", write)
    push_tiles(run, address, FOUR, overwrite=False)
    shards = whole(run, tmp_path, address)
    assert shards > UPLOADS
    assert all(name.startswith("shards/") for name in ended[:shards]), "what says that it is whole comes last"
    assert ended[-1] == "store.json"


def test_an_upload_that_fails_ends_the_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, address = packed(tmp_path, class_folders(tmp_path / "root", 60)), f"file://{tmp_path}/shared"
    asked: list[str] = []

    def write(storage: ObjectStorage, name: str, content: bytes) -> None:
        asked.append(name)
        raise UserError("lost")

    monkeypatch.setattr(ObjectStorage, "write", write)
    with pytest.raises(UserError, match="lost"):
        push_tiles(run, address, FOUR, overwrite=False)
    assert len(asked) <= UPLOADS
    assert not (tmp_path / "shared" / "store.json").exists()


def test_a_push_that_was_killed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, address = packed(tmp_path, class_folders(tmp_path / "root", 60)), f"file://{tmp_path}/shared"

    def dying() -> None:
        dies_at(ObjectStorage, "write", 9)
        push_tiles(run, address, FOUR, overwrite=False)

    killed = get_context("fork").Process(target=dying)
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    there = sorted((tmp_path / "shared" / "shards").iterdir())
    assert there
    assert not (tmp_path / "shared" / "store.json").exists()
    there[0].write_bytes(there[0].read_bytes()[:-1])  # as where half of a file may be written
    full = sum(file_digest(path) == path.stem for path in there)
    push_tiles(run, address, FOUR, overwrite=False)
    assert whole(run, tmp_path, address) > len(there)
    known = f", {full} of them there before" if full else ""
    assert f"shards{known}: " in capsys.readouterr().out.replace("\n", "")


def test_a_push_outlives_a_lost_connection(tmp_path: Path, server: ObjectStore) -> None:
    run, address = packed(tmp_path, class_folders(tmp_path / "root", 60)), f"s3://{BUCKET}/pushed"
    server.break_at(5, "PUT")
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(push_tiles, run, address, FOUR, overwrite=False)
        assert server.asked.wait(60)
        server.stop()
        server.start()
        pushing.result()
    assert server.fetched > whole(run, tmp_path, address), "some were put there twice"


def weights(folder: Path) -> bytes:
    return (folder / "runs" / "tiny" / "pretrain" / "gcl-0" / "backbone.safetensors").read_bytes()


def test_training_from_object_storage_outlives_a_lost_connection(
    tmp_path: Path, server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process is another machine. All but the first have no images, and room for a part of the shards alone."""
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "images", 60)
    (tmp_path / "tiny.yaml").write_text(SMALL)
    run = Run(tmp_path / "runs" / "here", load_recipe("tiny.yaml"))
    pack_tiles.pack_tiles(run)
    address = f"s3://{BUCKET}/tiny"
    push_tiles(run, address, FOUR, overwrite=False)
    push_tiles(run, f"file://{tmp_path}/shared", FOUR, overwrite=False)

    def machine(name: str, address: str) -> subprocess.Popen[bytes]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "tiny.yaml").write_text(SMALL)
        store = {"address": address, "cache": "cache", "cache_gb": 4 * FOUR / 1e3, "mixed_shards": 2, "retries": 3}
        given = [part for key, value in store.items() for part in ("--set", f"data.store.{key}={value}")]
        command = [*COMMAND, "pretrain", "tiny.yaml", *given]
        with open(folder / "said.txt", "w") as said:
            return subprocess.Popen(command, cwd=folder, env=environment(), stdout=said, stderr=subprocess.STDOUT)

    def said(name: str) -> str:
        return (tmp_path / name / "said.txt").read_text()

    def waits(process: subprocess.Popen[bytes], times: int) -> None:
        """Wait until the process has said so many times that it tries again."""
        while said("broken").count("Trying again in 0.5 s") < times:
            assert process.poll() is None, said("broken")
            sleep(0.1)

    undisturbed = machine("undisturbed", f"file://{tmp_path}/shared")
    server.break_at(15)
    broken = machine("broken", address)
    server.stop_when_asked(broken)
    waits(broken, 1)
    server.break_at(15)
    server.start()
    server.stop_when_asked(broken)
    waits(broken, 2)
    assert broken.wait(300) == 1, said("broken")
    assert "Traceback" not in said("broken")
    assert said("broken").count("error: ") == 1
    assert "cannot be had in 4 attempts" in said("broken")
    assert "type the same command again" in said("broken")
    server.break_at(0)
    server.start()
    assert machine("broken", address).wait(300) == 0, said("broken")
    assert "going on from step" in said("broken")
    assert undisturbed.wait(300) == 0, said("undisturbed")
    assert said("undisturbed").count("epoch 3/3") == 1
    assert weights(tmp_path / "undisturbed") == weights(tmp_path / "broken")
    for name in ("undisturbed", "broken"):
        assert sum(path.stat().st_size for path in (tmp_path / name / "cache").glob("*.bin")) <= 4 * FOUR * 1e6

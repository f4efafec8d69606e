"""A whole recipe on two nodes of one process each, by the line in docs/many-devices.md. Both nodes are this machine."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from functools import partial
from pathlib import Path

import command_line
import pytest
from drawn_imagery import draw
from launched_processes import LIMIT, Two, free_port
from object_store import BUCKET, SMALL, ObjectStore
from pages import ROOT, blocks
from small_images import class_folders

from gcl_custom.cli.main import app
from gcl_custom.export import embed
from gcl_custom.export.push_tiles import push_tiles
from gcl_custom.files import file_digest
from gcl_custom.imagery import pack_tiles
from gcl_custom.recipe.file import load_recipe
from gcl_custom.runs.run import Run

RECIPE = command_line.TINY.replace("batch: 21", "batch: 20").replace(
    "  probe_every: 1\n", "  probe_every: 1\n  targets: {name: words, words: 16}\n"
)
MADE = ("views/views.npy", "reconstructions/views.npy", "targets/features.npy", "probes/gcl-0/probes.json",
        "probes/patches/probes.json")  # fmt: skip
"""What one process and two make of the same weights with the same bytes."""
TRAINED = ("tokenizer/vqgan.safetensors", "maskgit/maskgit.safetensors", "pretrain/gcl-0/backbone.safetensors",
           "pretrain/gcl-0/history.json", "finetune/gcl-0-0.5-0.001/predictions.json",
           "compare/scores.json")  # fmt: skip
RUN = "run mine.yaml --set hardware.nodes=2"
STEPS, SHARD_BYTES, CACHED = 28, 4 * 3 * 16 * 16, 5
"""Of the training from object storage: its steps, bytes of a shard of four tiles, and how many shards a cache holds."""


def type_command(folder: Path, command: str) -> None:
    with chdir(folder):
        app(command.split(), standalone_mode=False)


def bytes_of(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (folder / "runs" / "mine" / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished run of two processes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "mine.yaml").write_text(RECIPE)
    two = Two(partial(type_command, folder, RUN), folder=folder)
    assert (two.codes(600), two.error) == ([0, 0], "")
    return folder


def copied(folder: Path, to: Path, without: tuple[str, ...]) -> Path:
    """A copy of the folder in which stages are still to be done."""
    shutil.copytree(folder, to)
    for stage in without:
        shutil.rmtree(to / "runs" / "mine" / stage)
    return to


def test_one_process_makes_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    made = ("views", "reconstructions", "targets", "probes", "compare")
    folder = copied(undisturbed, tmp_path / "one", made)
    type_command(folder, "compare-supervised mine.yaml")
    assert bytes_of(folder, MADE) == bytes_of(undisturbed, MADE)


def test_processes_that_the_command_starts_train_to_the_same_weights(undisturbed: Path, tmp_path: Path) -> None:
    folder = copied(undisturbed, tmp_path / "started", ("pretrain/gcl-0",))
    type_command(folder, "pretrain mine.yaml --set hardware.devices=2")
    same = ("pretrain/gcl-0/backbone.safetensors", "pretrain/gcl-0/history.json")
    assert bytes_of(folder, same) == bytes_of(undisturbed, same)


def test_embedding_is_shared(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "INFERENCE_BATCH", 8)
    draw(undisturbed / "others", bands=3, each=15, size=32)
    (undisturbed / "others" / "broken.png").write_bytes(b"no image")
    two = Two(partial(type_command, undisturbed, "embed others --out two.npy"), folder=undisturbed)
    assert (two.codes(), two.error) == ([0, 0], "")
    type_command(undisturbed, "embed others --out one.npy")
    for end in (".npy", ".csv", ".npy.unusable.txt"):
        assert (undisturbed / f"two{end}").read_bytes() == (undisturbed / f"one{end}").read_bytes()


def torchrun(folder: Path, command: str = RUN, homes: tuple[Path, Path] | None = None) -> list[subprocess.Popen[str]]:
    """The processes of the line in the docs, typed on two machines that are this one.

    Args:
        command: typed in place of the one in the docs.
        homes: home of the user on each machine.
    """
    (line,) = [
        words
        for block in blocks(ROOT / "docs" / "many-devices.md")
        if block.language == "bash"
        for words in block.commands
        if words[0] == "torchrun"
    ]
    typed = shlex.join(line).replace("10.0.0.1", "127.0.0.1").replace("29500", str(free_port()))
    assert typed.endswith(RUN)
    typed = typed.removesuffix(RUN) + command
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    own = [quiet | {"HOME": str(home)} for home in homes] if homes else [quiet] * 2
    return [
        subprocess.Popen(
            shlex.split(typed.replace("--node-rank 0", f"--node-rank {node}")), cwd=folder, env=own[node], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for node in (0, 1)
    ]  # fmt: skip


def child_of(process: subprocess.Popen[str]) -> int:
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def kill_the_second(nodes: list[subprocess.Popen[str]], begun: Path) -> list[tuple[str, str]]:
    """Kill the process of the second node once a file is there, and give what both nodes have said."""
    first, second = nodes
    while not begun.is_file() and first.poll() is None:
        time.sleep(0.01)
    os.kill(child_of(second), signal.SIGKILL)
    said = [process.communicate(timeout=2 * LIMIT) for process in nodes]
    assert first.returncode != 0, said
    assert second.returncode != 0
    assert "error: One of the processes that work together was killed (number 1, on " in said[0][0] + said[0][1]
    return said


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_the_line_in_the_docs_survives_a_kill(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    kill_the_second(torchrun(tmp_path), tmp_path / "runs" / "mine" / "pretrain" / "gcl-0" / "last.ckpt")
    again = torchrun(tmp_path)
    said = [process.communicate() for process in again]
    assert [process.returncode for process in again] == [0, 0], said
    assert not said[1][0]
    assert bytes_of(tmp_path, MADE + TRAINED) == bytes_of(undisturbed, MADE + TRAINED)


def cached(*folders: Path) -> None:
    """See to it that caches hold whole shards, and not more than they may."""
    for folder in folders:
        shards = list(folder.glob("*.bin"))
        assert 0 < len(shards) <= CACHED
        assert all(file_digest(path) == path.stem for path in shards)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_nodes_train_from_object_storage(tmp_path: Path, server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first the nodes share a cache, and after the kill each has one of its own."""
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "images", 120)
    (tmp_path / "mine.yaml").write_text(SMALL)
    packed = Run(tmp_path / "runs" / "here", load_recipe("mine.yaml"))
    pack_tiles.pack_tiles(packed)
    folders = {f"file://{tmp_path}/disk": tmp_path / "local", f"s3://{BUCKET}/small": tmp_path / "streamed"}
    for address, folder in folders.items():
        push_tiles(packed, address, SHARD_BYTES / 1e6, overwrite=False)
        folder.mkdir()
        (folder / "mine.yaml").write_text(SMALL)
    (disk, local), (far, streamed) = folders.items()
    settings = {
        "hardware.nodes": 2, "pretrain.epochs": 4, "pretrain.batch": 12, "pretrain.probe_every": 2,
        "data.store.cache_gb": CACHED * SHARD_BYTES / 1e9, "data.store.mixed_shards": 2,
    }  # fmt: skip
    command = " ".join(["pretrain mine.yaml", *(f"--set {key}={value}" for key, value in settings.items())])
    command, shared = f"{command} --set data.store.address=", "--set data.store.cache=cache"
    ended = [(node.communicate(), node.returncode) for node in torchrun(local, f"{command}{disk} {shared}")]
    assert [code for _, code in ended] == [0, 0], ended
    trained = "pretrain/gcl-0"
    begun = streamed / "runs" / "mine" / trained / "last.ckpt"
    kill_the_second(torchrun(streamed, f"{command}{far} {shared}"), begun)
    homes = tmp_path / "first", tmp_path / "second"
    again = [(node.communicate(), node.returncode) for node in torchrun(streamed, f"{command}{far}", homes)]
    assert [code for _, code in again] == [0, 0], again
    assert (step := re.search(r"going on from step (\d+)", again[0][0][0])), again
    assert 0 < int(step[1]) < STEPS
    names = f"{trained}/backbone.safetensors", f"{trained}/history.json"
    assert bytes_of(streamed, names) == bytes_of(local, names)
    cached(streamed / "cache", *(home / ".cache/gcl-custom/shards" for home in homes))

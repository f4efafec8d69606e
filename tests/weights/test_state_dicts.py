import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gcl_custom.errors import UserError
from gcl_custom.weights.state_dicts import first_of, load_weights, numbered, read_state, save_weights, shape_of

BOTH = pytest.mark.parametrize("archive", [True, False], ids=["archive", "stream"])


def test_names_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, {"weight": torch.zeros(3, 2), "surplus": torch.zeros(1)})
    with pytest.raises(UserError, match=r"missing bias.*surplus surplus.*weight is \(3, 2\), not \(2, 2\)"):
        load_weights(path, nn.Linear(2, 2))
    path.write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load_weights(path, nn.Linear(2, 2))


def test_a_message_names_the_first_faults_and_counts_the_rest() -> None:
    assert first_of(["a", "b"]) == "a; b"
    assert first_of([*"abcdefg"]) == "a; b; c; d; e and 2 more"


def test_a_state_is_found_under_its_keys_and_loses_its_prefixes(tmp_path: Path) -> None:
    state = {"module._orig_mod.weight": torch.ones(2), "bias": torch.zeros(2)}
    torch.save({"epoch": 3, "model": {"ema": state}}, tmp_path / "w.pth")
    found = read_state(tmp_path / "w.pth", "here", ["state_dict", "model", "ema"], ["module.", "_orig_mod."])
    assert found.keys() == {"weight", "bias"}
    assert found["weight"].equal(torch.ones(2))
    save_weights(tmp_path / "w.safetensors", state)
    assert read_state(tmp_path / "w.safetensors", "here").keys() == state.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            nn.Linear(1, 1),
            r"here: .*w\.pth is a pickle .*\(it names torch\.nn\.modules\.linear\.Linear\).*save its tensors",
        ),
        ({"epoch": 3}, "here: .*holds no state dict, alone or under model, but: epoch"),
        ([1], "here: .*holds no state dict, alone or under model, but: list"),
    ],
)
def test_what_is_no_state_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        read_state(tmp_path / "w.pth", "here", ["model"])


@BOTH
def test_what_trainers_keep_beside_the_tensors_is_passed_over(tmp_path: Path, archive: bool) -> None:
    """Options and scalars as the checkpoints of MAGE, Halton-MaskGIT and Lightning have them."""
    checkpoint = {
        "model": {"weight": torch.arange(6.0).view(2, 3), "half": torch.ones(2, dtype=torch.bfloat16)},
        "args": argparse.Namespace(lr=np.float64(1e-3), steps=np.int64(7), device="cuda", betas=(0.9, np.float32(1))),
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}},
        "best": np.float32(0.5),
        "done": np.bool_(True),
    }
    torch.save(checkpoint, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    found = read_state(tmp_path / "w.pth", "here", ["model"])
    assert found.keys() == {"weight", "half"}
    assert all(found[name].equal(value) and found[name].dtype == value.dtype for name, value in found.items())


def renamed(path: Path, before: str, after: str) -> None:
    """Let a checkpoint's pickle name another thing."""
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, value in content.items():
            file.writestr(name, value.replace(f"c{before}\n".encode(), f"c{after}\n".encode()))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("numpy._core.multiarray\nscalar", "numpy.core.multiarray\nscalar"),  # as numpy 1 wrote it
        (f"{__name__}\nCallback", "pytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint"),
    ],
)
def test_what_older_versions_named_is_passed_over_too(tmp_path: Path, before: str, after: str) -> None:
    content = {"callbacks": {Callback: 1} if "Callback" in before else {}, "best": np.float32(1)}
    torch.save({"state_dict": {"weight": torch.ones(2)}, **content}, tmp_path / "last.ckpt")
    renamed(tmp_path / "last.ckpt", before, after)
    assert after.split("\n")[0].encode() in (tmp_path / "last.ckpt").read_bytes()
    assert read_state(tmp_path / "last.ckpt", "here", ["state_dict"])["weight"].equal(torch.ones(2))


class Callback: ...


class Harm:
    """Makes a file when it is unpickled, by a call."""

    def __init__(self, call: Callable[..., object], *given: str) -> None:
        self.call = call, given

    def __reduce__(self) -> Any:
        return self.call


@BOTH
@pytest.mark.parametrize("beside", [True, False])
def test_a_file_that_names_anything_else_is_refused_and_nothing_runs(
    tmp_path: Path, archive: bool, beside: bool
) -> None:
    path, harmed = tmp_path / "w.pth", tmp_path / "harmed"
    for harm, name in (
        (Harm(os.system, f"touch {harmed}"), r"posix\.system"),
        (Harm(os.mkdir, str(harmed)), r"posix\.mkdir"),
        (Harm(open, str(harmed), "w"), r"_?io\.open"),
        (Harm(eval, f"open('{harmed}', 'w')"), "eval"),
        (Harm(torch.load, str(harmed)), r"torch\.serialization\.load"),
    ):
        content = {"model": {"weight": torch.ones(1)}, "args": argparse.Namespace(x=harm)} if beside else harm
        torch.save(content, path, _use_new_zipfile_serialization=archive)
        with pytest.raises(UserError, match=rf"here: .*\(it names {name}\), so it is not read"):
            read_state(path, "here", ["model"])
        assert not harmed.exists()
    pickle.loads(pickle.dumps(Harm(os.mkdir, str(harmed))))
    assert harmed.exists(), "the files of this test do nothing, so it shows nothing"


def test_the_line_in_the_message_saves_the_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"weight": torch.ones(2)}, "network": nn.Linear(1, 1)}, "w.pth")
    with pytest.raises(UserError) as caught:
        read_state(Path("w.pth"), "here", ["state_dict"])
    exec(str(caught.value).split('python -c "')[1].split('"')[0])
    assert read_state(Path("tensors.pth"), "here")["weight"].equal(torch.ones(2))


@BOTH
def test_a_file_that_is_missing_or_cut_off_is_named(tmp_path: Path, archive: bool) -> None:
    with pytest.raises(UserError, match=r"here: there are no weights at .*nowhere\.pth"):
        read_state(tmp_path / "nowhere.pth", "here")
    torch.save({"weight": torch.zeros(1000)}, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    whole = (tmp_path / "w.pth").read_bytes()
    for kept in range(1, len(whole) - 1, 97):
        (tmp_path / "w.pth").write_bytes(whole[:kept])
        with pytest.raises(UserError, match=r"here: .*w\.pth"):
            read_state(tmp_path / "w.pth", "here")


def test_tied_weights_are_written_under_both_names_and_come_back_tied(tmp_path: Path) -> None:
    def tied() -> nn.ModuleDict:
        net = nn.ModuleDict({"embedding": nn.Embedding(3, 2), "head": nn.Linear(2, 3)})
        net["head"].weight = net["embedding"].weight
        return net

    net, other = tied(), tied()
    save_weights(tmp_path / "w.safetensors", net)
    found = read_state(tmp_path / "w.safetensors", "here")
    assert found.keys() == {"embedding.weight", "head.weight", "head.bias"}
    load_weights(tmp_path / "w.safetensors", other)
    assert other["head"].weight is other["embedding"].weight
    assert torch.equal(other["embedding"].weight, net["embedding"].weight)


def test_sizes_are_read_from_names_and_shapes() -> None:
    found = {"a.0.w": torch.zeros(2, 3), "a.10.w": torch.zeros(1), "a.x": torch.zeros(1), "ab.99.w": torch.zeros(1)}
    assert numbered(found, "a.") == 11
    assert numbered(found, "b.") == 0
    assert shape_of("file", found, "a.0.w", 2) == (2, 3)
    with pytest.raises(UserError, match=r"file does not fit: missing a\.1\.w"):
        shape_of("file", found, "a.1.w", 2)
    with pytest.raises(UserError, match=r"file does not fit: a\.0\.w is \(2, 3\), but should have 4 dimensions"):
        shape_of("file", found, "a.0.w", 4)

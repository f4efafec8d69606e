"""Files are made by the test, in the formats of torch, with classes that would do harm when unpickled freely."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.foreign_pickle import convert, read_foreign, tensors_in

BOTH = pytest.mark.parametrize("archive", [True, False], ids=["archive", "stream"])


class Harm:
    """Makes a file when it is unpickled, by a call, and by what sets its state."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


class Opens:
    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> Any:
        return open, (self.target, "w")


class Trainer:
    """Has state, items and members, as callbacks in checkpoints of Lightning do."""

    def __init__(self) -> None:
        self.metrics = {"loss": torch.tensor(1.0)}

    def __setstate__(self, state: object) -> None:
        raise AssertionError("this was run")


class Listing(list[int]): ...


class Mapping(dict[str, int]): ...


def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(3, 4, generator=generator)
    return {
        "plain": torch.randn(5, 2, generator=generator),
        "half": torch.randn(7, generator=generator).bfloat16(),
        "count": torch.tensor([3, 2**40]),
        "flags": torch.tensor([True, False]),
        "tied": shared,
        "tied_too": shared,
        "row": shared[1],
        "turned": torch.randn(2, 3, generator=generator).T,
        "empty": torch.zeros(0),
        "parameter": nn.Parameter(torch.ones(2)),
    }


@BOTH
def test_tensors_come_out_bit_for_bit_and_nothing_runs(tmp_path: Path, archive: bool) -> None:
    harmed, opened = tmp_path / "harmed", tmp_path / "opened"
    content = {
        "epoch": 3,
        "callbacks": {Trainer: Trainer(), "list": Listing([1, 2]), "map": Mapping(a=1)},
        "hyper": [Harm(harmed), Opens(opened), Path("x"), {1, 2}],
        "network": nn.Linear(2, 2),
        "state_dict": state(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}},
    }
    torch.save(content, tmp_path / "last.ckpt", _use_new_zipfile_serialization=archive)
    tensors, refused = convert(tmp_path / "last.ckpt", tmp_path / "out.safetensors")
    assert not harmed.exists()
    assert not opened.exists()
    assert tensors == len(state())
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == state().keys()
    for name, value in state().items():
        assert found[name].dtype == value.dtype
        assert found[name].equal(value)
    assert {"posix.system", f"{Trainer.__module__}.Trainer", "torch.nn.modules.linear.Linear"} <= refused
    assert {name.split(".")[-1] for name in refused} >= {"open", "Listing", "Mapping"}


def test_the_harmful_file_is_harmful_where_it_is_unpickled_freely(tmp_path: Path) -> None:
    """So that the test above cannot pass because its file does nothing."""
    pickle.loads(pickle.dumps(Harm(tmp_path / "harmed")))
    assert (tmp_path / "harmed").exists()


@BOTH
def test_a_harmful_call_in_place_of_the_whole_file_does_not_run(tmp_path: Path, archive: bool) -> None:
    torch.save(Harm(tmp_path / "harmed"), tmp_path / "w.pt", _use_new_zipfile_serialization=archive)
    with pytest.raises(UserError, match="holds no tensor"):
        convert(tmp_path / "w.pt", tmp_path / "out.safetensors")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Harm(tmp_path / "harmed")))
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        convert(tmp_path / "plain.pkl", tmp_path / "out.safetensors")
    assert not (tmp_path / "harmed").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins\neval",
        "builtins\ngetattr",
        "torch\nload",
        "torch\nhub",
        "torch._utils\n_import_dotted_name",
        "os\nsystem",
    ],
)
def test_no_other_name_reaches_what_it_names(tmp_path: Path, name: str) -> None:
    """A hand-written pickle: the name is called with a text, which would be an error or worse if it were real."""
    body = f"c{name}\n(S'1/0'\ntR.".encode()
    torch.save({"x": 1}, tmp_path / "w.pt")

    with zipfile.ZipFile(tmp_path / "w.pt") as before, zipfile.ZipFile(tmp_path / "evil.pt", "w") as after:
        for entry in before.namelist():
            after.writestr(entry, body if entry.endswith("data.pkl") else before.read(entry))
    found, refused = read_foreign(tmp_path / "evil.pt")
    assert type(found).__name__ == "Inert"
    assert refused == {name.replace("\n", ".")}


def test_the_part_that_is_taken_can_be_chosen(tmp_path: Path) -> None:
    nested = {"ema": {"weight": torch.ones(1)}, "list": [torch.zeros(1)]}
    torch.save({"model": nested, "optimizer": {0: torch.zeros(2)}, "args": Trainer}, tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "a.safetensors")
    assert load_file(tmp_path / "a.safetensors").keys() == {"ema.weight", "list.0"}
    convert(tmp_path / "w.pth", tmp_path / "b.safetensors", "all")
    assert load_file(tmp_path / "b.safetensors").keys() == {"model.ema.weight", "model.list.0", "optimizer.0"}
    convert(tmp_path / "w.pth", tmp_path / "c.safetensors", "optimizer")
    assert load_file(tmp_path / "c.safetensors").keys() == {"0"}
    with pytest.raises(UserError, match="has no 'state_dict', but: model, optimizer, args"):
        convert(tmp_path / "w.pth", tmp_path / "d.safetensors", "state_dict")
    with pytest.raises(UserError, match=r"a\.safetensors exists already"):
        convert(tmp_path / "w.pth", tmp_path / "a.safetensors")


def test_names_that_would_fall_together_and_what_holds_itself(tmp_path: Path) -> None:
    looped: dict[str, Any] = {"a": torch.ones(1)}
    looped["self"] = looped
    torch.save(looped, tmp_path / "w.pt")
    assert convert(tmp_path / "w.pt", tmp_path / "w.safetensors") == (1, set())
    torch.save({"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}}, tmp_path / "two.pt")
    with pytest.raises(UserError, match=r"would both be named a\.b"):
        convert(tmp_path / "two.pt", tmp_path / "two.safetensors")
    assert [name for name, _ in tensors_in({"x": [1, {"y": torch.ones(1)}]})] == ["x.1.y"]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        read_foreign(tmp_path / "nowhere")
    for archive in (True, False):
        torch.save({"a": torch.ones(1000)}, tmp_path / "w.pt", _use_new_zipfile_serialization=archive)
        whole = (tmp_path / "w.pt").read_bytes()
        for kept in range(1, len(whole) - 1, 97):
            (tmp_path / "w.pt").write_bytes(whole[:kept])
            with pytest.raises(UserError, match="cannot be read as a checkpoint"):
                read_foreign(tmp_path / "w.pt")

    with zipfile.ZipFile(tmp_path / "script.pt", "w") as file:
        file.writestr("script/constants.pkl", b"")
    with pytest.raises(UserError, match="TorchScript"):
        read_foreign(tmp_path / "script.pt")

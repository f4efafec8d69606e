from pathlib import Path

import pytest
import torch
from torch import nn

from gcl_custom.errors import UserError
from gcl_custom.weights import first_of, load_weights, numbered, read_state, save_weights, shape_of


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
            r"here: .*holds more than tensors \(it names torch\.nn\.modules\.linear\.Linear\).*--convert",
        ),
        ({"epoch": 3}, "here: .*holds no state dict, alone or under model, but: epoch"),
        ([1], "here: .*holds no state dict, alone or under model, but: list"),
    ],
)
def test_what_is_no_state_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        read_state(tmp_path / "w.pth", "here", ["model"])


@pytest.mark.parametrize("archive", [True, False])
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

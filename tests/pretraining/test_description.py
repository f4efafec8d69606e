"""A backbone's file says what it holds, and no reader takes it for another network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pretraining_runs import module_of, run_in, with_changes

from gcl_custom.errors import UserError
from gcl_custom.imagery.values.forms import Choice, Form
from gcl_custom.pretraining import backbones
from gcl_custom.pretraining.description import Description, described
from gcl_custom.recipe.pretraining import FileStartSettings
from gcl_custom.weights.state_dicts import read_metadata, save_weights

ABOUT = Description(
    version="0.1.0", network="test_resnet", stem="standard", model_args={"in_chans": 2}, width=128, bands=2,
    band_names=["red", "near infrared"], use_bands=[4, 5], of_bands=6, called=None,
    size=16, dtype="uint16", low=[0.1, 3.0], high=[4000.7, 5000.0],
    mean=[0.4, 0.5], deviation=[0.2, 0.3], upscale=False, nodata=0.5,
)  # fmt: skip


def test_a_description_comes_back_from_the_metadata_of_a_file(tmp_path: Path) -> None:
    trained, _ = backbones.build("test_resnet", 2)
    save_weights(tmp_path / "weights.safetensors", trained, ABOUT.metadata())
    assert Description.read(read_metadata(tmp_path / "weights.safetensors"), "file") == ABOUT
    tiles = torch.rand(2, 2, 16, 16)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (ABOUT.mean, ABOUT.deviation))
    with torch.no_grad():
        found = ABOUT.built(trained.state_dict(), "file")(tiles)
        torch.testing.assert_close(found, trained.eval()((tiles - mean) / deviation))


def test_a_description_says_which_bands_of_a_file_the_network_takes() -> None:
    assert ABOUT.form == Form(2, "uint16", ("red", "near infrared"), Choice((4, 5), 6, None))
    by_name = ABOUT.model_copy(update={"called": list("abcdef")})
    assert by_name.form.choice == Choice((4, 5), 6, tuple("abcdef"))
    assert ABOUT.model_copy(update={"use_bands": None, "of_bands": 2}).form.choice is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"network": "resnet1800"}, "timm has no network 'resnet1800'"),
     ({"model_args": {"in_chans": 2, "pretrained": True}}, "model_args that gcl-custom does not write: {'pretrained'}"),
     ({"model_args": {"in_chans": 3}}, r"conv1\S* is .*, not")],
)  # fmt: skip
def test_a_description_builds_nothing_but_what_pretraining_builds(changes: dict[str, Any], message: str) -> None:
    trained, _ = backbones.build("test_resnet", 2)
    with pytest.raises(UserError, match=message):
        ABOUT.model_copy(update=changes).built(trained.state_dict(), "file")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [({}, "an earlier version of gcl-custom or other software wrote it. Load the run"),
     ({"gcl_custom": "{"}, "not understood"),
     ({"gcl_custom": json.dumps(ABOUT.model_dump() | {"later": 1})}, r"later: .* Another version")],
)  # fmt: skip
def test_a_file_without_a_description_says_what_to_do(metadata: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Description.read(metadata, "file")


def test_a_file_is_not_read_as_another_network(tmp_path: Path) -> None:
    trained, _ = backbones.build("test_resnet", 3)
    path, other = tmp_path / "weights.safetensors", tmp_path / "theirs.safetensors"
    about = ABOUT.model_copy(update={"stem": "small", "bands": 3, "model_args": {"in_chans": 3}})
    save_weights(path, trained, about.metadata())
    save_weights(other, trained)
    assert described(path, "test_resnet.r160_in1k", "small", "here") == about
    assert described(other, "test_resnet", "standard", "here") is None
    assert described(tmp_path / "none.safetensors", "test_resnet", "standard", "here") is None
    with pytest.raises(UserError, match=r"^here: .* with a small stem, not test_resnet with a standard"):
        described(path, "test_resnet", "standard", "here")
    start = FileStartSettings(name="file", weights=str(path), mean=[0.0], std=[1.0])
    run = run_in(tmp_path)
    with pytest.raises(UserError, match=r"pretrain\.start: .* holds test_resnet with a small stem"):
        module_of(run, with_changes(start=start))
    module_of(run, with_changes(start=start, stem="small"))

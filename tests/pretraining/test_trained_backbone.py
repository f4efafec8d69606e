"""The network that a pretraining left is built from its files alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pretraining_runs import run_in

from gcl_custom.errors import UserError
from gcl_custom.pretraining import backbones
from gcl_custom.pretraining.trained_backbone import BACKBONE, Description, network_of
from gcl_custom.runs import plan
from gcl_custom.weights.state_dicts import read_metadata, save_weights


def test_the_backbone_of_a_pretraining_represents_as_it_did(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    stage = plan.pretrain(run, "paired", 0)
    stage.begin()
    trained, width = backbones.build("test_resnet", 3)
    save_weights(stage.path / BACKBONE, trained)
    network, same_width = network_of(run, stage, 3)
    tiles = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(network.eval()(tiles), trained.eval()(tiles))
    assert same_width == width
    with pytest.raises(UserError, match=r"backbone\.safetensors"):
        network_of(run, stage, 4)


ABOUT = Description(
    version="0.1.0", network="test_resnet", stem="standard", model_args={"in_chans": 2}, width=128, bands=2,
    band_names=["red", "near infrared"], size=16, dtype="uint16", low=[0.1, 3.0], high=[4000.7, 5000.0],
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

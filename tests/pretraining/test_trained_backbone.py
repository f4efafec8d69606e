"""The network that a pretraining left is built from its files alone."""

from pathlib import Path

import pytest
import torch
from pretraining_runs import run_in

from gcl_custom.errors import UserError
from gcl_custom.pretraining import backbones
from gcl_custom.pretraining.trained_backbone import BACKBONE, network_of
from gcl_custom.runs import plan
from gcl_custom.weights.state_dicts import save_weights


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

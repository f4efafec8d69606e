"""Which backbone of a run is meant, and what a tile must be like for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gcl_custom.errors import UserError
from gcl_custom.export import backbone_of_run
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    made: Run = make_run(tmp_path_factory.mktemp("trained"), bands=4)
    return made


def test_the_first_seed_of_gcl_is_meant_unless_another_is_named(run: Run) -> None:
    for given, (arm, seed) in {("gcl", None): ("gcl", 3), ("handcrafted", 4): ("handcrafted", 4)}.items():
        known = backbone_of_run.load_backbone(run, *given)
        assert (known.arm, known.seed) == (arm, seed)
        kept = load_file(plan.pretrain(run, known.arm, known.seed).path / "backbone.safetensors")
        assert all(torch.equal(value, kept[name]) for name, value in known.network.state_dict().items())
        assert not known.network.training


def test_an_unknown_arm_and_a_missing_seed_are_answered_with_what_there_is(run: Run) -> None:
    with pytest.raises(UserError, match=r"gcl, handcrafted, reconstructed, paired$"):
        backbone_of_run.find_pretraining(run, "supervised", None)
    with pytest.raises(UserError, match=r"is not finished.*not in the recipe.*\[3, 4\].*--arm gcl --seed 4"):
        backbone_of_run.find_pretraining(run, "gcl", 9)


def test_a_backbone_of_other_settings_is_not_taken_for_this_run_s(run: Run) -> None:
    longer = run.recipe.model_copy(update={"pretrain": run.recipe.pretrain.model_copy(update={"epochs": 5})})
    with pytest.raises(UserError, match=r"made from other settings.*Run: gcl-custom pretrain --run trial"):
        backbone_of_run.find_pretraining(Run(run.path, longer), "gcl", None)


def test_the_stated_edges_are_those_of_unit_floats(run: Run) -> None:
    known = backbone_of_run.load_backbone(run, "gcl", None)
    about = known.about()
    low, high = (torch.tensor(json.loads(about[key]))[:, None, None] for key in ("low", "high"))
    raw = known.store.read(torch.arange(len(known.store)))
    assert torch.allclose(((raw - low) / (high - low)).clamp(0, 1), known.store.unit(raw))
    assert str(known.store.low.tolist()) in known.input
    assert (raw > high).any(), "nothing is cut off, so nothing is tested"


def test_a_tag_names_weights_and_is_left_out(make_run: Callable[..., Any], tmp_path: Path) -> None:
    known = backbone_of_run.load_backbone(make_run(tmp_path, backbone="test_resnet.r160_in1k"), "gcl", None)
    assert known.architecture == "test_resnet"

"""What is loaded is what was saved, and weights that do not fit are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_make_views import SETTINGS, with_generator

from gcl_custom import plan
from gcl_custom.errors import UserError
from gcl_custom.generator.loading import load_generator
from gcl_custom.generator.maskgit import MaskGIT
from gcl_custom.imagery import TileStore
from gcl_custom.weights import save_weights


def test_a_generator_has_the_weights_of_its_stages(tmp_path: Path) -> None:
    run = with_generator(tmp_path / "r")
    generator = load_generator(run, TileStore(plan.tiles(run).path))
    for network, name in ((generator.tokenizer, "tokenizer/vqgan"), (generator.maskgit, "maskgit/maskgit")):
        saved, loaded = load_file(run.path / f"{name}.safetensors"), network.state_dict()
        assert saved.keys() == loaded.keys()
        assert all(torch.equal(saved[key], loaded[key]) for key in saved)


def test_a_generator_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    run = with_generator(tmp_path / "r")
    save_weights(plan.maskgit(run).path / "maskgit.safetensors", MaskGIT(9, 4, SETTINGS.tokens.maskgit))
    with pytest.raises(UserError, match="does not fit MaskGIT"):
        load_generator(run, TileStore(plan.tiles(run).path))

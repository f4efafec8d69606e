"""What is loaded is what was saved, and weights that do not fit are refused."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from drawn_imagery import draw
from safetensors.torch import load_file
from token_runs import SETTINGS, with_generator

from gcl_custom.errors import UserError
from gcl_custom.generator.build_networks import TOKENIZERS, TRANSFORMERS
from gcl_custom.generator.encoding import draws
from gcl_custom.generator.loading import FAMILIES, load_generator
from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.evaluation import CompareSettings
from gcl_custom.recipe.generator import (
    AnyMaskGITSettings,
    AnyTokenizerSettings,
    GeneratorSettings,
    ImageToImageSettings,
    UnclipSettings,
)
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.weights.state_dicts import save_weights


def names(choice: object) -> set[str]:
    """The names of a choice of sections in the grammar."""
    union, _ = get_args(choice)
    return {metadata.tag for section in get_args(union) for metadata in get_args(section)[1:]}


def test_every_choice_of_the_grammar_has_what_loads_it() -> None:
    assert names(GeneratorSettings) == set(FAMILIES)
    assert names(AnyTokenizerSettings) == set(TOKENIZERS)
    assert names(AnyMaskGITSettings) == set(TRANSFORMERS)


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


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, numpy 2
@pytest.mark.parametrize("name", ["diffusion", "unclip"])
def test_diffusion_computes_in_the_recipes_precision(tmp_path: Path, name: str) -> None:
    import tiny_models

    draw(tmp_path / "imagery", bands=3, each=6, size=16)
    if name == "diffusion":
        model = str(tiny_models.save_sdxl(tmp_path / "model"))
        settings = ImageToImageSettings(name="diffusion", model=model, captions=None, strength=0.2)
    else:
        settings = UnclipSettings(name="unclip", model=str(tiny_models.save_unclip(tmp_path / "model")), steps=2)
    data, views = DataSettings(root=str(tmp_path / "imagery"), size=16), {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        hardware = HardwareSettings(accelerator="cpu", precision=precision)
        recipe = Recipe(
            name="r", data=data, generator=settings, hardware=hardware, compare=CompareSettings(arms=["gcl"])
        )
        run = Run(tmp_path / precision, recipe)
        pack_tiles.pack_tiles(run)
        store = TileStore(plan.tiles(run).path)
        generator = load_generator(run, store)
        assert {weight.dtype for network in generator.networks for weight in network.parameters()} == {dtype}
        tiles, rng = store.index("train")[:2], draws(run, store.index("train")[:2])
        made = generator.decode(generator.augment(generator.encode(store.unit(store.read(tiles)), rng), rng))
        assert made.dtype == torch.float32
        views[precision] = made
    torch.testing.assert_close(views["bf16"], views["fp32"], rtol=0, atol=0.1)

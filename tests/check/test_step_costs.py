from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from tiny_recipe import TINY
from torch import Tensor, nn

from gcl_custom.check import step_costs
from gcl_custom.check.step_costs import Bench, TokenCosts, extrapolated, measure
from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.measures.label_kinds import MASKS, MULTI_LABEL, SINGLE_LABEL
from gcl_custom.recipe.methods import MethodSettings
from gcl_custom.recipe.pretraining import SmallCropsSettings, TokenTargetsSettings
from gcl_custom.recipe.views import LatentNoiseSettings
from gcl_custom.training.batches import Batch
from gcl_custom.training.steps import Steps
from gcl_custom.weights.state_dicts import save_weights


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_costs, "REPEATS", 1)


@pytest.mark.parametrize("bands", [3, 5])
def test_every_kind_of_batch_is_measured(bands: int) -> None:
    before = torch.random.get_rng_state()
    measured = measure(TINY, bands, rgb=bands == 3, tokens=True)
    assert torch.equal(before, torch.random.get_rng_state())
    found = measured.tokens
    assert isinstance(found, TokenCosts)
    assert found.tokenizer
    assert found.adversary
    assert found.views
    kinds = (found.tokenizer, found.adversary, found.maskgit, found.tokenise, found.views)
    for cost in (*kinds, measured.pretrain, measured.supervised, measured.embed):
        assert cost
        seconds, memory, parameters = astuple(cost)
        assert 0 < seconds < 60
        assert memory >= 4 * parameters > 0
    parameters = sum(p.numel() for p in VQGAN(bands, TINY.tokens.tokenizer).parameters())
    assert found.tokenizer.parameters == parameters
    assert found.tokenizer.memory > 4 * 4 * parameters
    assert found.adversary.parameters > parameters
    assert found.views.memory == 4 * found.views.parameters


@pytest.mark.parametrize("kind", [SINGLE_LABEL, MULTI_LABEL, MASKS], ids=lambda kind: str(kind.stored_as))
def test_training_on_labels_is_measured_with_every_kind_of_label(kind: LabelKind) -> None:
    assert measure(TINY, 3, rgb=True, tokens=False, kind=kind).supervised.seconds > 0


def test_only_what_a_recipe_does_is_measured(tmp_path: Path) -> None:
    assert measure(TINY, 3, rgb=True, tokens=False).tokens is None
    save_weights(tmp_path / "vqgan.safetensors", VQGAN(3, TINY.tokens.tokenizer))
    taken = TINY.tokens.tokenizer.model_copy(update={"epochs": 0, "weights": str(tmp_path / "vqgan.safetensors")})
    generator = TINY.tokens.model_copy(update={"tokenizer": taken})
    edited = TINY.views.model_copy(update={"strategy": LatentNoiseSettings(name="noise")})
    found = measure(TINY.model_copy(update={"generator": generator, "views": edited}), 3, True, True).tokens
    assert found
    assert (found.tokenizer, found.adversary, found.maskgit, found.views) == (None, None, None, None)
    assert found.tokenise.seconds > 0


def test_what_a_batch_keeps_is_counted_and_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """x w is kept as x alone for the gradient of w: 4 bytes a number."""
    monkeypatch.setattr(step_costs, "SECONDS", 0.0)  # so that 8 tiles are measured
    layer = nn.Linear(100, 50, bias=False)
    seen: list[int] = []

    def step(count: int) -> None:
        seen.append(count)
        tiles: Tensor = torch.ones(count, 100)
        layer(tiles).sum().backward()

    cost = Bench(TINY, 3, True).cost(step, 64, [layer])
    assert set(seen) == {8}
    assert cost.parameters == 5000
    assert cost.memory == 64 * 100 * 4 + 4 * 4 * 5000
    assert cost.seconds > 0


def test_time_goes_on_along_the_line_through_two_numbers_of_tiles() -> None:
    """A step that takes 2 s and 0.1 s a tile; with one number of tiles there is no line."""
    assert extrapolated(8, 2.8, 48, 6.8, 128) == pytest.approx(14.8)
    assert extrapolated(8, 2.8, 8, 2.8, 16) == pytest.approx(5.6)
    assert extrapolated(8, 2.8, 16, 2.7, 32) == pytest.approx(2.7), "a hiccup of the first step"


@pytest.mark.parametrize("name", ["vicreg", "lejepa"])
def test_small_crops_are_counted(name: str) -> None:
    """They are as large as the two large views here, so four of them bring about twice what those take."""
    kept = []
    for count in (0, 4):
        method = TypeAdapter(MethodSettings).validate_python({"name": name, "projector": [8, 8]})
        small = SmallCropsSettings(count=count, size=TINY.pretrain.crop_size or TINY.data.size)
        change = {"pretrain": TINY.pretrain.model_copy(update={"method": method, "small_crops": small})}
        kept.append(step_costs._pretrain(Bench(TINY.model_copy(update=change), 3, True)))
    assert kept[0].parameters == kept[1].parameters
    views = kept[0].memory - 16 * kept[0].parameters
    assert kept[1].memory - kept[0].memory == pytest.approx(2 * views, rel=0.1)


def test_the_trainings_own_steps_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = set[str]()
    take = Steps.take

    def watched(self: Steps, batch: Batch) -> None:
        taken.add(type(self.module).__name__)
        take(self, batch)

    monkeypatch.setattr(Steps, "take", watched)
    measure(TINY, 3, rgb=True, tokens=True)
    assert taken == {"TokenizerTraining", "MaskGITTraining", "Contrastive", "Classifier"}


def test_targets_of_tokens_are_measured_where_their_tokenizer_is_there() -> None:
    pretrain = TINY.pretrain.model_copy(update={"targets": TokenTargetsSettings(name="tokens")})
    recipe = TINY.model_copy(update={"pretrain": pretrain})
    assert measure(recipe, 3, rgb=True, tokens=False).targets is None
    found = measure(recipe, 3, rgb=True, tokens=True).targets
    assert found is not None
    cost, width = found
    assert width == TINY.tokens.tokenizer.codes
    assert cost.seconds > 0


def test_maskgit_is_not_measured_where_tokens_are_only_predicted() -> None:
    pretrain = TINY.pretrain.model_copy(update={"targets": TokenTargetsSettings(name="tokens"), "source": "raw"})
    compare = TINY.compare.model_copy(update={"arms": ["gcl"]})
    recipe = TINY.model_copy(update={"pretrain": pretrain, "compare": compare})
    found = measure(recipe, 3, rgb=True, tokens=True).tokens
    assert found
    assert found.tokenizer
    assert (found.maskgit, found.views) == (None, None)

"""When the adversary joins, which weights are kept, what is measured, and what is said where training goes wrong."""

import copy
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from token_runs import RECIPE, with_tokenizer
from tokenizer_runs import recipe, tile_store
from torch import Tensor, nn

from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.generator.token_store import Tokens
from gcl_custom.generator.token_training import (
    MASKGIT_WARMUP,
    RISING_STEPS,
    MaskGITTraining,
    Quality,
    TokenizerTraining,
    evenly,
    warning,
)
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.feature_networks import FeatureNetwork
from gcl_custom.recipe.generator import MaskGITSettings, TokenizerSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.schedules import rise_times_cosine
from gcl_custom.training.batches import Batch
from gcl_custom.training.engine import engine
from gcl_custom.training.steps import Steps


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_the_default_perceptual_network_takes_any_bands(tmp_path: Path, bands: int) -> None:
    settings = recipe(perceptual=TokenizerSettings().perceptual)
    training = TokenizerTraining(settings, tile_store(tmp_path / "tiles", bands), steps_per_epoch=4)
    history = trained(training, steps=1)
    assert history[0]["perceptual"] > 0


def trained(training: TokenizerTraining, steps: int) -> list[dict[str, float]]:
    """Take training steps, and return what they recorded."""
    hardware = HardwareSettings(accelerator="cpu", precision="fp32")
    taking = Steps(training, engine(hardware), hardware, "tokenizer")
    rows = []
    for step in range(steps):
        torch.manual_seed(step)
        tiles = torch.arange(4) + step % 4
        taking.take(Batch(step, tiles, training.store.read(tiles)))
        rows.append({name: float(value) for name, value in training.recorded.items()})
    return rows


def test_the_adversary_joins_at_its_share_of_the_run(tmp_path: Path) -> None:
    training = TokenizerTraining(recipe(), tile_store(tmp_path / "tiles"), steps_per_epoch=4)
    before = {name: value.clone() for name, value in training.adversary.state_dict().items()}
    rows = trained(training, steps=8)
    assert all("discriminator" not in row for row in rows)
    assert all(torch.equal(value, before[name]) for name, value in training.adversary.state_dict().items())
    rows = trained(training, steps=10)
    assert ["discriminator" in row for row in rows] == [False] * 8 + [True] * 2
    assert [training.adversary_weight(share) for share in (0.5, 0.625, 0.75, 1.0)] == pytest.approx([0, 0.05, 0.1, 0.1])


def test_the_first_steps_of_the_discriminator_leave_the_reconstruction_alone(tmp_path: Path) -> None:
    """At the share at which the adversary joins its weight is 0: the VQGAN goes on as without it."""
    nets = []
    for start in (0.0, 1.0):
        settings = recipe(adversary_start=start, adversary_warmup=1.0)
        training = TokenizerTraining(settings, tile_store(tmp_path / str(start)), steps_per_epoch=4)
        trained(training, steps=1)
        nets.append(training.net.state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_without_symmetry_tiles_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for symmetry in ("none", "dihedral"):
        settings = recipe()
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"symmetry": symmetry})})
        training = TokenizerTraining(settings, tile_store(tmp_path / symmetry), steps_per_epoch=4)
        training.net.encode = lambda tiles, encode=training.net.encode: (shown.append(tiles), encode(tiles))[1]  # type: ignore[method-assign]
        trained(training, steps=1)
    store = TileStore(tmp_path / "none")
    assert torch.equal(shown[0], store.unit(store.read(torch.arange(4))))
    assert not torch.equal(shown[1], shown[0])
    torch.testing.assert_close(shown[1].sum((1, 2, 3)), shown[0].sum((1, 2, 3)))


def test_it_warns_of_a_collapsed_codebook_and_of_a_winning_discriminator(tmp_path: Path) -> None:
    training = TokenizerTraining(recipe(), tile_store(tmp_path / "tiles"), steps_per_epoch=4)
    training.steps, training.settings = 1000, training.settings.model_copy(update={"revive_after": 200})
    assert training.warnings(0.1, 1.0, share_done=0.0) == {}
    assert training.warnings(0.1, 1.0, share_done=0.15) == {}, "no code was revived yet"
    (line,) = training.warnings(0.1, 1.0, share_done=0.3).values()
    assert "collapsing: only 10% of the codes" in line
    assert training.warnings(0.1, 0.15, share_done=0.3) == {}, "few tokens cannot show more"
    training.adversary.mean_real.fill_(1.5)
    training.adversary.mean_fake.fill_(-1.5)
    seen = []
    for _ in range(3):
        with torch.no_grad():
            training.evaluate()
        seen.append(list(training.warnings(0.9, 1.0, share_done=0.3)))
    assert seen == [[], [], ["discriminator"]]
    resumed = TokenizerTraining(recipe(), TileStore(tmp_path / "tiles"), steps_per_epoch=4)
    resumed.load_state_dict(training.state_dict())
    assert list(resumed.warnings(0.9, 1.0, share_done=1.0)) == ["discriminator"]
    training.adversary.mean_fake.fill_(0.0)
    with torch.no_grad():
        training.evaluate()
    assert training.warnings(0.9, 1.0, share_done=0.3) == {}
    training.steps = 14
    (line,) = training.warnings(0.03, 1.0, share_done=1.0).values()
    assert "the training has 14 steps, and unused codes are revived after 200" in line


def test_evenly_spread_entries_keep_their_order_and_both_ends() -> None:
    assert evenly(torch.arange(10, 20), 4).tolist() == [10, 13, 16, 19]
    assert evenly(torch.arange(3), 8).tolist() == [0, 1, 2]
    assert len(evenly(torch.zeros(1, dtype=torch.long).expand(2**24 + 4), 1000)) == 1000  # none lies past the end


class Rounding(VQGAN):
    """A token is a tile's mean, rounded to quarters."""

    def __init__(self) -> None:
        super().__init__(2, TokenizerSettings(codes=5, channels=16, blocks=1))

    def tokenise(self, tiles: Tensor) -> Tensor:
        return (tiles.mean((1, 2, 3)) * 4).round().long()[:, None, None]

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        return (tokens / 4)[:, None].expand(-1, 2, 16, 16)


def test_figures_are_those_of_their_definitions(tmp_path: Path) -> None:
    store = tile_store(tmp_path / "tiles")
    network = FeatureNetwork("mean", [nn.Identity()], [0.0] * 3, [1.0] * 3, compared=1)
    index, net = store.index("train"), Rounding()
    figures = Quality(store, index, network).of(net)
    tiles = store.unit(store.read(index))
    tokens = net.tokenise(tiles)
    each = [
        10 * math.log10(1 / (tile - token / 4).square().mean().item())
        for tile, token in zip(tiles, tokens, strict=True)
    ]
    assert figures["psnr"] == pytest.approx(sum(each) / len(each), rel=1e-5)
    assert figures["codes_used"] == len(tokens.unique()) / 5
    assert figures["feature_distance"] > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Quality(store, index, network).of(net)["ssim"] == pytest.approx(figures["ssim"], abs=1e-6)
    assert 1 <= figures["perplexity"] <= len(tokens.unique())


def training_on(run: Run) -> MaskGITTraining:
    store = TileStore(plan.tiles(run).path)
    tokenizer = VQGAN(2, RECIPE.tokens.tokenizer)
    return MaskGITTraining(RECIPE, store, Tokens(plan.tokens(run).path, store), tokenizer, 2)


def test_marginal_entropy_is_the_code_length_of_validation_tokens(tmp_path: Path) -> None:
    training = training_on(with_tokenizer(tmp_path / "r"))
    counts = training._tokens.counts(training._store.index("train"), 8).double() + 1
    terms = []
    for tokens, hidden in training.hidden_validation():
        terms += [-math.log(counts[token] / counts.sum()) for token in tokens[hidden].tolist()]
    assert training.marginal_entropy() == pytest.approx(sum(terms) / len(terms))
    # The same tokens are hidden at each evaluation.
    first, second = training.hidden_validation(), training.hidden_validation()
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))


def test_the_average_with_the_lowest_validation_loss_is_kept(tmp_path: Path) -> None:
    training = training_on(with_tokenizer(tmp_path / "r"))
    training.eval()
    losses, states = [], []
    for number in range(6):
        training._step = 2 * number + 1
        with torch.no_grad():
            for parameter in training.average.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
            figures = training.evaluate()
        training.keep(figures)
        losses.append(figures["masked_token_loss"])
        states.append(copy.deepcopy(training.average.state_dict()))
    best = losses.index(min(losses))
    assert training.kept_loss.item() == pytest.approx(min(losses))
    assert int(training.kept_epoch) == best + 1
    for name, value in training.kept.state_dict().items():
        assert torch.equal(value, states[best][name])


def patient(patience: float, epochs: int, steps_per_epoch: int) -> MaskGITTraining:
    """A training that is only asked how long it takes."""
    training = MaskGITTraining.__new__(MaskGITTraining)
    nn.Module.__init__(training)
    training._settings = MaskGITSettings(patience=patience, epochs=epochs)
    training._steps_per_epoch, training._last_epoch = steps_per_epoch, None
    return training


def losing(falls: Sequence[float], gap: float = 1.0) -> list[dict[str, float]]:
    """A history whose held-out loss falls from epoch to epoch."""
    losses = [5.0 - sum(falls[:number]) for number in range(len(falls) + 1)]
    return [{"epoch": float(number + 1), "masked_token_loss": loss, "gap": gap} for number, loss in enumerate(losses)]


FLAT = losing([0.1] * 29 + [0.0] * 10)
"""Flat from epoch 30 on: epoch 40 is the first of which the last quarter brought nothing."""


def test_it_winds_down_once_the_held_out_loss_is_flat() -> None:
    training = patient(0.25, 3000, 100)
    training.heed(FLAT[:39])
    assert training.last_epoch is None
    assert training.schedule(3999) == 1
    training.heed(FLAT)
    assert training.last_epoch == 50, "the rate falls over the last fifth"
    assert [training.schedule(step) for step in (4000, 4500, 4999)] == pytest.approx([1, 0.5, 1e-3])
    training.heed(FLAT + losing([1.0] * 45)[40:])
    assert training.last_epoch == 50, "what was decided stays"


def test_a_resumed_training_decides_as_an_undisturbed_one() -> None:
    whole, resumed = patient(0.25, 3000, 100), patient(0.25, 3000, 100)
    for number in range(len(FLAT)):
        whole.heed(FLAT[: number + 1])
    resumed.heed(FLAT)
    assert whole.last_epoch == resumed.last_epoch == 50


@pytest.mark.parametrize(
    ("training", "history"),
    [
        (patient(0.0, 3000, 100), FLAT),
        (patient(0.25, 49, 100), FLAT),  # it has begun to fall by then anyway
        (patient(0.25, 3000, 100), losing([0.1] * 29 + [0.0] * 10, gap=0.05)),  # it sits at the marginal entropy
        (patient(0.25, 3000, 25), FLAT),  # a thousand steps are done, but no quarter of them after the thousandth
    ],
    ids=["no patience", "few epochs", "nothing learnt", "few steps"],
)
def test_it_trains_for_all_epochs_where_a_flat_loss_says_nothing(
    training: MaskGITTraining, history: list[dict[str, float]]
) -> None:
    training.heed(history)
    assert training.last_epoch is None


def test_without_patience_the_rate_follows_a_cosine_to_the_last_epoch() -> None:
    training = patient(0.0, 40, 10)
    assert [training.schedule(step) for step in range(400)] == [
        rise_times_cosine(step / 400, MASKGIT_WARMUP) for step in range(400)
    ]


def test_with_patience_the_rate_rises_soon_though_there_may_be_many_epochs() -> None:
    assert patient(0.25, 3000, 100).schedule(RISING_STEPS) == 1
    assert patient(0.25, 10, 10).schedule(5) == 1, "of a short training the same share as without"


def test_evaluations_lie_as_close_as_the_share_that_is_judged_asks_for() -> None:
    training = patient(0.25, 3000, 100)
    evaluated = [epoch for epoch in range(1, 3001) if training.evaluates(epoch)]
    assert evaluated[:32] == [*range(1, 33)]
    assert all(after - before <= before / 16 for before, after in itertools.pairwise(evaluated[31:]))
    assert len(evaluated) < 150


def test_weight_decay_is_on_matrices_only(tmp_path: Path) -> None:
    training = training_on(with_tokenizer(tmp_path / "r"))
    decayed, others = training.make_optimizer().param_groups
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    assert decayed["weight_decay"] > 0
    assert others["weight_decay"] == 0
    assert len(decayed["params"]) + len(others["params"]) == len(list(training.net.parameters()))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_recipe_s_label_smoothing_reaches_any_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smoothing: float
) -> None:
    """Public networks know nothing of the recipe: they are told."""
    training = training_on(with_tokenizer(tmp_path / "r"))
    training._settings = training._settings.model_copy(update={"label_smoothing": smoothing})
    told = list[float]()

    def loss(tokens: torch.Tensor, hidden: torch.Tensor, smoothing: float | None = None) -> torch.Tensor:
        told.append(-1.0 if smoothing is None else smoothing)
        return torch.zeros(())

    monkeypatch.setattr(training.net, "loss", loss)
    tiles = training._store.index("train")[:3]
    training.training_step(Batch(0, tiles, training._tokens.read(tiles)))
    assert told == [smoothing]


def test_it_warns_where_nothing_is_learnt_from_context() -> None:
    assert warning(gap=0.02, share_done=0.1) is None
    assert warning(gap=0.9, share_done=0.9) is None
    assert warning(gap=0.02, share_done=0.1, due=0.05) is not None
    line = warning(gap=0.02, share_done=0.5)
    assert line is not None
    assert "0.02 nats" in line
    assert "generator.maskgit.epochs" in line
    assert "3.26 nats above the marginal entropy" in (warning(gap=-3.26, share_done=0.5) or "")

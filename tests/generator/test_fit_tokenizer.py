"""The stage that fits the VQGAN: exact resumption, when the adversary joins, and the figures that it states."""

import json
import math
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gcl_custom.generator import fit_tokenizer
from gcl_custom.generator.fit_tokenizer import Quality, TokenizerTraining, evenly
from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.feature_networks import FeatureNetwork
from gcl_custom.recipe.features import WithoutNetworkSettings
from gcl_custom.recipe.generator import TokenGeneratorSettings, TokenizerSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch


def recipe(**settings: object) -> Recipe:
    small = {
        "epochs": 4, "batch": 4, "codes": 16, "code_width": 4, "channels": 16, "blocks": 1, "pixels_per_token": 4,
        "perceptual": WithoutNetworkSettings(name="none"), "revive_after": 3, "adversary_start": 0.5,
        "adversary_warmup": 0.25, "adversary_weight": 0.1,
    }  # fmt: skip
    return Recipe(
        name="r",
        data=DataSettings(root="none", size=16),
        generator=TokenGeneratorSettings(tokenizer=TokenizerSettings(**{**small, **settings})),  # type: ignore[arg-type]
        hardware=HardwareSettings(accelerator="cpu", precision="fp32", checkpoint_minutes=1e-9),
    )


def tile_store(folder: Path, bands: int = 2) -> TileStore:
    """Sixteen training tiles, four validation and four test tiles of smooth random fields."""
    folder.mkdir(parents=True)
    coarse = torch.rand(24, bands, 4, 4, generator=torch.Generator().manual_seed(0))
    fields = nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")
    (fields * 255).to(torch.uint8).numpy().tofile(folder / "tiles.bin")
    about = {
        "dtype": "uint8", "bands": bands, "size": 16, "rgb": bands == 3, "classes": [], "labels": [-1] * 24,
        "files": [f"{number:02d}.tif" for number in range(24)], "multi_label": False, "slots": list(range(24)),
        "low": [0] * bands, "high": [255] * bands, "split": [0] * 16 + [1] * 4 + [2] * 4,
    }  # fmt: skip
    (folder / "tiles.json").write_text(json.dumps(about), encoding="utf-8")
    return TileStore(folder)


def with_tiles(folder: Path, settings: Recipe) -> Run:
    run = Run(folder, settings)
    stage = plan.tiles(run)
    tile_store(stage.path)
    stage.begin()
    stage.finish()
    return run


def work(folder: Path, settings: Recipe, killed_at: int | None) -> None:
    torch.set_num_threads(1)
    step = TokenizerTraining.training_step

    def dying(self: TokenizerTraining, batch: Batch, batch_idx: int) -> None:
        if batch.step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        step(self, batch, batch_idx)

    TokenizerTraining.training_step = dying  # type: ignore[method-assign]
    fit_tokenizer.fit_tokenizer(Run(folder, settings))


def test_weights_of_another_run_are_taken_as_they_are_or_trained_on(tmp_path: Path) -> None:
    first = with_tiles(tmp_path / "first", recipe(epochs=1))
    fit_tokenizer.fit_tokenizer(first)
    weights = plan.tokenizer(first).path / plan.TOKENIZER
    taken = with_tiles(tmp_path / "taken", recipe(epochs=0, weights=str(weights)))
    fit_tokenizer.fit_tokenizer(taken)
    assert (plan.tokenizer(taken).path / plan.TOKENIZER).read_bytes() == weights.read_bytes()
    quality = ("psnr", "ssim", "feature_distance", "codes_used")
    assert all(plan.tokenizer(taken).facts[name] == plan.tokenizer(first).facts[name] for name in quality)
    further = with_tiles(tmp_path / "further", recipe(epochs=1, weights=str(weights), adversary_start=1.0))
    fit_tokenizer.fit_tokenizer(further)
    start, end = load_file(weights), load_file(plan.tokenizer(further).path / plan.TOKENIZER)
    moved = [(end[name] - start[name]).abs().max().item() for name in start if start[name].is_floating_point()]
    assert max(moved) > 0
    assert plan.tokenizer(further).facts["psnr"] > plan.tokenizer(first).facts["psnr"]


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Killed in mid-epoch before and after the adversary joined, with codes revived."""
    settings = recipe()
    for name, kills in (("whole", (None,)), ("killed", (6, 13, None))):
        with_tiles(tmp_path / name, settings)
        for killed_at in kills:
            process = multiprocessing.get_context("fork").Process(
                target=work, args=(tmp_path / name, settings, killed_at)
            )
            process.start()
            process.join()
            assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    whole, killed = (load_file(tmp_path / name / "tokenizer" / "vqgan.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert not any("discriminator" in name for name in whole)
    facts = [plan.tokenizer(Run(tmp_path / name, settings)).facts for name in ("whole", "killed")]
    assert facts[0] == facts[1]
    assert {"psnr", "ssim", "feature_distance", "codes_used", "perplexity", "parameters"} <= facts[0].keys()
    assert list((tmp_path / "whole" / "tokenizer" / "pictures").glob("reconstructions-*.png"))


def test_a_finished_stage_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_tiles(tmp_path / "r", recipe(epochs=1))
    fit_tokenizer.fit_tokenizer(run)
    monkeypatch.delattr(fit_tokenizer, "fit")
    fit_tokenizer.fit_tokenizer(run)


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_the_default_perceptual_network_takes_any_bands(tmp_path: Path, bands: int) -> None:
    settings = recipe(perceptual=TokenizerSettings().perceptual)
    training = TokenizerTraining(settings, tile_store(tmp_path / "tiles", bands), steps_per_epoch=4)
    history = trained(training, tmp_path, steps=1)
    assert history[0]["perceptual"] > 0


def trained(training: TokenizerTraining, folder: Path, steps: int) -> list[dict[str, float]]:
    """Take training steps without a trainer, and return what they recorded."""
    optimizers = training.configure_optimizers()
    training.optimizers = lambda: optimizers  # type: ignore[method-assign, assignment]
    training.manual_backward = Tensor.backward  # type: ignore[method-assign, assignment]
    rows = []
    for step in range(steps):
        torch.manual_seed(step)
        tiles = torch.arange(4) + step % 4
        training.training_step(Batch(step, tiles, training.store.read(tiles)), step)
        rows.append({name: float(value) for name, value in training.recorded.items()})
    return rows


def test_the_adversary_joins_at_its_share_of_the_run(tmp_path: Path) -> None:
    training = TokenizerTraining(recipe(), tile_store(tmp_path / "tiles"), steps_per_epoch=4)
    before = {name: value.clone() for name, value in training.adversary.state_dict().items()}
    rows = trained(training, tmp_path, steps=8)
    assert all("discriminator" not in row for row in rows)
    assert all(torch.equal(value, before[name]) for name, value in training.adversary.state_dict().items())
    rows = trained(training, tmp_path, steps=10)
    assert ["discriminator" in row for row in rows] == [False] * 8 + [True] * 2
    assert [training.adversary_weight(share) for share in (0.5, 0.625, 0.75, 1.0)] == pytest.approx([0, 0.05, 0.1, 0.1])


def test_the_first_steps_of_the_discriminator_leave_the_reconstruction_alone(tmp_path: Path) -> None:
    """At the share at which the adversary joins its weight is 0: the VQGAN goes on as without it."""
    nets = []
    for start in (0.0, 1.0):
        settings = recipe(adversary_start=start, adversary_warmup=1.0)
        training = TokenizerTraining(settings, tile_store(tmp_path / str(start)), steps_per_epoch=4)
        trained(training, tmp_path, steps=1)
        nets.append(training.net.state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_without_symmetry_tiles_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for symmetry in ("none", "dihedral"):
        settings = recipe()
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"symmetry": symmetry})})
        training = TokenizerTraining(settings, tile_store(tmp_path / symmetry), steps_per_epoch=4)
        training.net.encode = lambda tiles, encode=training.net.encode: (shown.append(tiles), encode(tiles))[1]  # type: ignore[method-assign]
        trained(training, tmp_path, steps=1)
    store = TileStore(tmp_path / "none")
    assert torch.equal(shown[0], store.unit(store.read(torch.arange(4))))
    assert not torch.equal(shown[1], shown[0])
    torch.testing.assert_close(shown[1].sum((1, 2, 3)), shown[0].sum((1, 2, 3)))


def test_it_warns_of_a_collapsed_codebook_and_of_a_winning_discriminator(tmp_path: Path) -> None:
    training = TokenizerTraining(recipe(), tile_store(tmp_path / "tiles"), steps_per_epoch=4)
    assert training.warnings(codes_used=0.1) == []
    training._share_done = 0.3
    (line,) = training.warnings(codes_used=0.1)
    assert "collapsing: only 10% of the codes" in line
    training.adversary.mean_real.fill_(1.5)
    training.adversary.mean_fake.fill_(-1.5)
    assert [len(training.warnings(codes_used=0.9)) for _ in range(3)] == [0, 0, 1]
    training.adversary.mean_fake.fill_(0.0)
    assert training.warnings(codes_used=0.9) == []


def test_evenly_spread_entries_keep_their_order_and_both_ends() -> None:
    assert evenly(torch.arange(10, 20), 4).tolist() == [10, 13, 16, 19]
    assert evenly(torch.arange(3), 8).tolist() == [0, 1, 2]


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

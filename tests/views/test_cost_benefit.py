"""The table of augmentations: known answers for known changes, which steps it has, and what the stage leaves."""

from pathlib import Path

import pytest
import torch
from token_runs import SETTINGS, with_generator
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.files import read_json
from gcl_custom.generator.loading import load_generator
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.feature_networks import FeatureNetwork, efficientnet_lite0, frechet_distance
from gcl_custom.measures.fid import FidNetwork
from gcl_custom.recipe.evaluation import CostBenefitSettings
from gcl_custom.recipe.pretraining import HandcraftedSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.views import cost_benefit, handcrafted
from gcl_custom.views.cost_benefit import Augmentation, Benefit, certain, held_out, needs

ALL = HandcraftedSettings(vertical_flip=0.1, turn=0.1, solarise=(0.1, 0.1))


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    return efficientnet_lite0()


def smooth(count: int) -> Tensor:
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1)


def test_what_changes_nothing_has_distance_0_and_similarity_1(network: FeatureNetwork) -> None:
    tiles = smooth(6)
    found = Benefit(tiles, torch.arange(6), network).of(Augmentation("none", lambda tiles, numbers: tiles))
    assert found["ssim"] == pytest.approx(1.0)
    assert found["perceptual_distance"] == pytest.approx(0.0, abs=1e-9)
    # The distance of numbers of this size from themselves is rounding.
    assert found["feature_distance"] == pytest.approx(0.0, abs=1e-6)


def test_a_flip_of_tiles_and_their_mirror_images_keeps_the_feature_distance(network: FeatureNetwork) -> None:
    """The set stays as it was, though no tile does."""
    half = smooth(4)
    tiles = torch.cat([half, half.flip(-1)])
    benefit = Benefit(tiles, torch.arange(8), network)
    flipped = benefit.of(Augmentation("flip", lambda tiles, numbers: tiles.flip(-1)))
    darker = benefit.of(Augmentation("darker", lambda tiles, numbers: tiles / 2))
    assert flipped["feature_distance"] == pytest.approx(0.0, abs=1e-3)
    assert darker["feature_distance"] > 1.0
    assert flipped["ssim"] < 0.9
    assert flipped["perceptual_distance"] > 0.01


def test_the_floor_is_the_distance_between_halves_that_share_no_tile(network: FeatureNetwork) -> None:
    """It is one of the distances between four of the eight tiles and the other four, and which one the seed says."""
    tiles, numbers = smooth(8), torch.arange(8)
    benefit = Benefit(tiles, numbers, network)
    floor, features = benefit.floor(seed=0)["feature_distance"], network.pooled(tiles)
    halves = [torch.tensor(some) for some in torch.combinations(numbers, 4).tolist()]
    splits = [frechet_distance(features[a], features[[n for n in range(8) if n not in a.tolist()]]) for a in halves]
    assert min(abs(floor - distance) for distance in splits) < 1e-6
    assert benefit.floor(seed=0) == {"feature_distance": floor}
    assert len({benefit.floor(seed)["feature_distance"] for seed in range(5)}) > 1


def test_a_step_alone_is_certain_and_one_that_is_never_taken_is_left_out() -> None:
    alone = certain(HandcraftedSettings(blur=(0.0, 0.1), flip=0.3), "blur")
    assert alone is not None
    assert alone.blur == (1.0, 1.0)
    assert certain(HandcraftedSettings(blur=(0.0, 0.0)), "blur") is None
    assert certain(HandcraftedSettings(turn=0.0), "turn") is None
    assert certain(HandcraftedSettings(crop=(0.2, 0.4)), "crop").crop == (0.2, 0.4)


def test_rows_are_the_generator_and_the_recipes_steps(tmp_path: Path) -> None:
    run = with_generator(tmp_path / "r")
    settings = HandcraftedSettings(jitter=0.0, solarise=(0.0, 0.0))
    run.recipe = run.recipe.model_copy(
        update={"pretrain": run.recipe.pretrain.model_copy(update={"handcrafted": settings, "crop_size": 24})}
    )
    store = TileStore(plan.tiles(run).path)
    found = {a.name: a for a in cost_benefit.augmentations(run, store, load_generator(run, store))}
    generative = ["reconstruction, p = 0", "in-painting, p = 0.25", "in-painting, p = 0.5", "in-painting, p = 0.75"]
    suite = ["suite, first view", "suite, second view"]
    assert list(found) == [*generative, "crop", "flip", "grey", "blur", *suite]
    numbers = store.index("test")
    tiles = store.unit(store.read(numbers))
    assert all(a.change(tiles, numbers).shape == tiles.shape for a in found.values())
    torch.testing.assert_close(found["flip"].change(tiles, numbers), tiles.flip(-1), atol=1e-6, rtol=0)
    # More hidden tokens, more of the tile changed.
    changed = [(found[name].change(tiles, numbers) - tiles).abs().mean().item() for name in generative[1:]]
    assert 0 < changed[0] < changed[2]


def test_every_step_that_a_recipe_takes_has_its_row_and_changes_tiles(tmp_path: Path) -> None:
    run = with_generator(tmp_path / "r")
    pretrain = run.recipe.pretrain.model_copy(update={"handcrafted": ALL})
    run.recipe = run.recipe.model_copy(update={"pretrain": pretrain})
    store = TileStore(plan.tiles(run).path)
    found = {a.name: a for a in cost_benefit.augmentations(run, store, load_generator(run, store))}
    numbers = store.index("train")
    tiles = store.unit(store.read(numbers))
    for step in handcrafted.STEPS:
        views = found[step.replace("_", " ")].change(tiles, numbers)
        assert views.shape == tiles.shape
        assert not torch.allclose(views, tiles, atol=1e-3), step


def test_the_stage_leaves_table_results_and_picture_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_benefit, "ROUNDS", 1)
    monkeypatch.setattr(cost_benefit, "SEARCH_ROUNDS", 1)
    monkeypatch.setattr(cost_benefit, "MASK_PROBABILITIES", ())
    run = with_generator(tmp_path / "r")
    cost_benefit.measure_cost_benefit(run, 4)
    stage = plan.cost_benefit(run, 4)
    results = read_json(stage.path / "results.json")
    rows = {row["name"]: row for row in results["augmentations"]}
    assert (results["tiles"], results["split"]) == (4, "test")
    weights = [run.path / "tokenizer" / "vqgan.safetensors", run.path / "maskgit" / "maskgit.safetensors"]
    painted, plain = rows["in-painting, p = 0.25"], rows["reconstruction, p = 0"]
    assert painted["megabytes"] == pytest.approx(sum(path.stat().st_size for path in weights) / 1e6)
    assert plain["megabytes"] == pytest.approx(weights[0].stat().st_size / 1e6)
    assert painted["parameters"] > plain["parameters"] > 0
    assert painted["megabytes_of_1000_views"] == pytest.approx(1000 * 2 * 16 * 16 / 1e6)
    assert rows["crop"]["parameters"] == rows["crop"]["megabytes"] == rows["crop"]["megabytes_of_1000_views"] == 0
    assert all(row["ms_at_best"] > 0 and row["ms_alone"] > 0 and row["best_batch"] <= 4 for row in rows.values())
    assert results["fid_network"] is None
    table = (stage.path / "table.md").read_text(encoding="utf-8")
    assert "FID was left out: it needs three bands" in table
    assert len([line for line in table.splitlines() if line.startswith("|")]) == 2 + 1 + len(rows)
    assert (stage.path / "augmentations.png").is_file()
    stamp = (stage.path / "results.json").stat().st_mtime_ns
    cost_benefit.measure_cost_benefit(run, 4)
    assert stamp == (stage.path / "results.json").stat().st_mtime_ns
    with pytest.raises(UserError, match=r"tiles: 4 -> 5.*--redo"):
        cost_benefit.measure_cost_benefit(run, 5)


def test_fid_is_measured_on_its_own_network_beside_the_feature_distance(
    network: FeatureNetwork, fid_weights: Path
) -> None:
    tiles, fid_network = smooth(4), FidNetwork(fid_weights)
    benefit = Benefit(tiles, torch.arange(4), network, fid_network)
    found = benefit.of(Augmentation("darker", lambda tiles, numbers: tiles / 2))
    assert found["fid"] == pytest.approx(frechet_distance(fid_network.pooled(tiles), fid_network.pooled(tiles / 2)))
    assert found["fid"] > 0.01
    assert set(benefit.floor(seed=0)) == {"feature_distance", "fid"}


def test_a_mistake_in_the_weights_of_fid_begins_nothing(tmp_path: Path) -> None:
    run = with_generator(tmp_path / "r")
    run.recipe = run.recipe.model_copy(
        update={"cost_benefit": CostBenefitSettings(fid_weights=str(tmp_path / "w.pth"))}
    )
    with pytest.raises(UserError, match=r"cost_benefit\.fid_weights: there are no weights at .*w\.pth"):
        cost_benefit.measure_cost_benefit(run, 4)
    assert not plan.cost_benefit(run, 4).path.exists()


def test_of_other_than_three_bands_fid_is_left_out_unloaded_and_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    run = with_generator(tmp_path / "r")
    (tmp_path / "w.pth").write_text("no weights of any network")
    run.recipe = run.recipe.model_copy(
        update={"cost_benefit": CostBenefitSettings(fid_weights=str(tmp_path / "w.pth"))}
    )
    monkeypatch.setattr(cost_benefit, "load_generator", stop)
    with pytest.raises(KeyboardInterrupt):
        cost_benefit.measure_cost_benefit(run, 4)
    said = " ".join(capsys.readouterr().out.split())
    assert "these tiles have 2, so what cost_benefit.fid_weights names was not loaded." in said


def test_without_a_generator_the_command_that_makes_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs maskgit.*gcl-custom fit-generator --run r"):
        cost_benefit.measure_cost_benefit(Run(tmp_path / "r", SETTINGS), 8)


def test_validation_tiles_are_taken_before_test_tiles(tmp_path: Path) -> None:
    store = TileStore(plan.tiles(with_generator(tmp_path / "r")).path)
    assert held_out(store, 3, captioned=False)[0] == "test"
    with pytest.raises(UserError, match=r"fewer than 4 validation tiles \(test tiles have no captions\), too few"):
        held_out(store, 3, captioned=True)
    store.split[:4] = 1
    for captioned in (False, True):
        split, numbers = held_out(store, 3, captioned)
        assert (split, numbers.tolist()) == ("valid", [0, 2, 3])
    store.split[:] = 0
    with pytest.raises(UserError, match="fewer than 4 validation tiles and fewer than 4 test tiles"):
        held_out(store, 3, captioned=False)


@pytest.mark.parametrize(("dtype", "each"), [("uint8", 1), ("uint16", 2), ("int16", 2), ("float32", 4)])
def test_stored_views_take_the_bytes_of_the_tiles_own_type(dtype: str, each: int, tmp_path: Path) -> None:
    store = TileStore(plan.tiles(with_generator(tmp_path / "r")).path)
    store.dtype = dtype
    found = needs(Augmentation("none", lambda tiles, numbers: tiles, stored=True), store)
    assert found["megabytes_of_1000_views"] == pytest.approx(1000 * each * 2 * 16 * 16 / 1e6)

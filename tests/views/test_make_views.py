"""The stage of views: what it writes is what the generator gives, and a killed run ends with the same bytes."""

import multiprocessing
import signal
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from drawn_imagery import draw
from dying import dies_at
from stored_tiles import tile_store
from token_runs import SETTINGS, with_generator, with_views

from gcl_custom.errors import StaleStage, UserError
from gcl_custom.generator import loading
from gcl_custom.generator.loading import load_generator
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.feature_networks import efficientnet_lite0
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.generator import IcGanSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.views import make_views, view_store
from gcl_custom.views.view_store import ViewStore


@pytest.mark.parametrize("pixels", ["own", "decoded"])
def test_views_are_what_the_generator_gives(pixels: str, tmp_path: Path) -> None:
    run = with_views(tmp_path / "r", pixels=pixels)
    make_views.make_views(run)
    store, made = TileStore(plan.tiles(run).path), ViewStore(plan.views(run).path)
    generator = load_generator(run, store)
    tiles = store.index("train")
    tokens = generator.encode(store.unit(store.read(tiles)), Randomness(0, "views", 0, tiles))
    changed = []
    for which in range(2):
        painted = generator.augment(tokens, Randomness(0, "views", which, tiles))
        read = made.read(tiles, torch.full_like(tiles, which))
        whole, kept = store.raw(generator.decode(painted)), store.read(tiles)
        if pixels == "own":  # a token is 4 px wide, and edges fade over 5
            near = F.max_pool2d(
                (painted != tokens).float()[:, None].repeat_interleave(4, 2).repeat_interleave(4, 3), 5, 1, 2
            )
            expected = generator.view(store.unit(kept), tokens, painted, Randomness(0, "views", which, tiles))
            assert torch.equal(read, store.raw(expected))
            untouched = (near == 0).expand_as(kept)
            assert torch.equal(read[untouched], kept[untouched])
            assert not torch.equal(read, kept)
        else:
            assert torch.equal(read, whole)
        changed.append((painted != tokens).float().mean().item())
    facts = plan.views(run).facts
    assert facts["changed_tokens"] == pytest.approx(sum(changed) / 2)
    assert 0 < facts["changed_tokens"] < 0.5
    assert facts["views_per_second"] > 0
    assert facts["measured_tiles"] == len(tiles)
    assert (plan.views(run).path / "views.png").is_file()
    assert not torch.equal(made.read(tiles, torch.zeros_like(tiles)), made.read(tiles, torch.ones_like(tiles)))


def test_reconstructions_are_encoded_and_decoded_tiles(tmp_path: Path) -> None:
    run = with_generator(tmp_path / "r")
    make_views.make_reconstructions(run)
    store, made = TileStore(plan.tiles(run).path), ViewStore(plan.reconstructions(run).path)
    generator, tiles = load_generator(run, store), store.index("train")
    tokens = generator.encode(store.unit(store.read(tiles)), Randomness(0, "views", 0, tiles))
    expected = store.raw(generator.decode(tokens))
    assert made.per_tile == 1
    assert torch.equal(made.read(tiles, torch.zeros_like(tiles)), expected)


def work(folder: Path, killed_at: int | None) -> None:
    torch.set_num_threads(1)
    dies_at(view_store.BlockedArray, "keep", killed_at)
    make_views.make_views(Run(folder, SETTINGS))


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Killed twice, each time after a block's figures were written, but before its pixels were."""
    for name, kills in (("whole", (None,)), ("killed", (1, 2, None))):
        with_generator(tmp_path / name)
        for killed_at in kills:
            process = multiprocessing.get_context("fork").Process(target=work, args=(tmp_path / name, killed_at))
            process.start()
            process.join()
            assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    whole, killed = (plan.views(Run(tmp_path / name, SETTINGS)) for name in ("whole", "killed"))
    assert (whole.path / "views.npy").read_bytes() == (killed.path / "views.npy").read_bytes()
    assert whole.facts["changed_tokens"] == killed.facts["changed_tokens"]
    assert whole.facts["feature_distance"] == killed.facts["feature_distance"]


def with_threshold(least: float) -> Recipe:
    return SETTINGS.model_copy(update={"views": SETTINGS.views.model_copy(update={"least_similarity": least})})


def test_similarity_is_that_of_pooled_features_and_a_threshold_may_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, run = with_generator(tmp_path / "plain"), with_generator(tmp_path / "r")
    make_views.make_views(plain)
    assert not (plan.views(plain).path / "similarity.npy").exists()
    assert "similarity" not in plan.views(plain).facts
    run = Run(run.path, with_threshold(-1.0))
    make_views.make_views(run)
    store, made = TileStore(plan.tiles(run).path), ViewStore(plan.views(run).path)
    same = [(plan.views(one).path / "views.npy").read_bytes() for one in (plain, run)]
    assert same[0] == same[1]
    tiles, network = store.index("train"), efficientnet_lite0()
    own = network.pooled(store.unit(store.read(tiles)))
    for which in range(2):
        other = network.pooled(store.unit(made.read(tiles, torch.full_like(tiles, which))))
        expected = (own * other).sum(dim=1) / (own.norm(dim=1) * other.norm(dim=1))
        torch.testing.assert_close(made.similarity[:, which], expected)
    mean = made.similarity.mean().item()
    assert plan.views(run).facts["similarity"] == pytest.approx(mean)
    said = capsys.readouterr().out
    assert f"on average {mean:.3f}" in said
    assert "0.0% lie below -1 and are left out" in said
    assert "warning" not in said
    median = made.similarity.median().item()
    higher = Run(run.path, with_threshold(median + 1e-6))
    make_views.make_views(higher)
    said = capsys.readouterr().out
    assert "done before" in said
    below = (made.similarity < median + 1e-6).double().mean().item()
    assert f"{below:.1%} lie below" in said
    assert ("Most views are less similar" in said) == (below > 0.5)
    make_views.make_views(Run(run.path, with_threshold(1.0)))
    assert "Most views are less similar" in capsys.readouterr().out
    with pytest.raises(StaleStage, match="least_similarity"):
        make_views.make_views(Run(run.path, SETTINGS))


def test_views_need_a_generator(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", SETTINGS)
    tile_store(plan.tiles(run).path)
    with pytest.raises(UserError, match="gcl-custom fit-generator"):
        make_views.make_views(run)


def test_a_generator_that_is_taken_as_it_is_is_tried_first(tmp_path: Path) -> None:
    draw(tmp_path / "imagery", bands=3, each=6, size=16)
    generator = IcGanSettings(
        name="icgan", weights=str(tmp_path / "nowhere.pth"), encoder="swav.pth", inversion_steps=5
    )
    data = DataSettings(root=str(tmp_path / "imagery"), size=16)
    run = Run(tmp_path / "r", Recipe(name="r", data=data, generator=generator))
    pack_tiles.pack_tiles(run)
    with pytest.raises(UserError, match=r"generator\.weights: there are no weights at .*nowhere\.pth"):
        make_views.try_generator(run)


def test_the_generator_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, loaded = with_generator(tmp_path / "r"), list[str]()

    def counted(name: str) -> None:
        load = getattr(loading, name)
        monkeypatch.setattr(loading, name, lambda *given: loaded.append(name) or load(*given))

    counted("load_tokenizer")
    counted("load_generator")
    monkeypatch.setattr(make_views, "load_generator", loading.load_generator)
    make_views.make_views(run)
    assert loaded == ["load_generator", "load_tokenizer"]
    assert plan.views(run).done

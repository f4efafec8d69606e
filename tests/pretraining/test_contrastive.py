"""What a step compares and lowers, and what an evaluation says."""

import copy
from pathlib import Path

import pytest
import torch
from pretraining_runs import (
    SETTINGS,
    SIZE,
    SMALL_HEADS,
    handcrafted_view,
    module_of,
    run_in,
    shown,
    views_at,
    with_changes,
)
from torch import Tensor

from gcl_custom.measures import collapse
from gcl_custom.measures.label_free import lidar
from gcl_custom.pretraining.contrastive import LIDAR_VIEWS
from gcl_custom.pretraining.pairs import Reader
from gcl_custom.pretraining.targets import Prediction
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.methods import (
    BarlowTwinsSettings,
    ByolSettings,
    DinoSettings,
    DistilSettings,
    LeJEPASettings,
    SimCLRSettings,
    SwavSettings,
    VICRegSettings,
)
from gcl_custom.recipe.pretraining import HandcraftedSettings, PretrainSettings, SmallCropsSettings
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch
from gcl_custom.views import handcrafted


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_in(tmp_path)


def views_of(run: Run, settings: PretrainSettings) -> tuple[Tensor, ...]:
    (views,) = views_at(run, settings, steps=1)
    return views


def test_without_mixing_both_views_are_handcrafted(run: Run) -> None:
    first, second = views_of(run, with_changes(mixing_rate=0.0))
    torch.testing.assert_close(first, handcrafted_view(run, 0, torch.arange(18)))
    torch.testing.assert_close(second, handcrafted_view(run, 1, torch.arange(18)))


def test_mixing_rate_one_takes_every_second_view_from_the_store_and_each_of_the_k(run: Run) -> None:
    first, second = views_of(run, with_changes(mixing_rate=1.0))
    torch.testing.assert_close(first, handcrafted_view(run, 0, torch.arange(18)))
    values = (second * 255).round()
    assert torch.equal(values, values[:, :1, :1, :1].expand_as(values)), "no pairing: the view as it was stored"
    assert set(values.flatten().tolist()) == {200, 201, 202}


def test_mixing_is_drawn_for_each_tile_and_leaves_the_others_handcrafted(run: Run) -> None:
    generated = 0
    for step, (_, second) in enumerate(views_at(run, SETTINGS, 20)):
        generative = (second * 255 > 150).flatten(1).all(dim=1)
        expected = handcrafted_view(run, 1, torch.arange(18), step=step)
        torch.testing.assert_close(second[~generative], expected[~generative])
        generated += int(generative.sum())
    assert generated / (20 * 18) == pytest.approx(SETTINGS.mixing_rate, abs=0.08)


def test_a_step_takes_each_generative_view_of_a_tile_once(run: Run) -> None:
    first, *others = views_of(run, with_changes(generative_views=3, mixing_rate=1.0))
    torch.testing.assert_close(first, handcrafted_view(run, 0, torch.arange(18)))
    taken = torch.stack([shown(view) for view in others], dim=1)
    assert torch.equal(taken.sort(dim=1).values, torch.arange(3).expand(18, 3))
    assert len(taken.unique(dim=0)) > 3
    alone = views_of(run, with_changes(mixing_rate=1.0))[1]
    assert torch.equal(others[0], alone), "the first pair is that of a step with one"


def test_second_views_are_mixed_each_by_itself_and_differ_where_handcrafted(run: Run) -> None:
    _, *others = views_of(run, with_changes(generative_views=3, mixing_rate=0.0))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.isclose(others[one], others[other]).flatten(1).all(dim=1).any()
    settings = with_changes(generative_views=2)
    drawn = [[shown(view) >= 0 for view in views[1:]] for views in views_at(run, settings, 24)]
    both = torch.cat([a & b for a, b in drawn]).float().mean().item()
    assert both == pytest.approx(0.25, abs=0.06)


def test_small_crops_are_cut_from_the_real_tile_beside_the_pair(run: Run) -> None:
    small = SmallCropsSettings(count=3, size=16, area=(0.1, 0.2))
    settings = with_changes(method=DinoSettings(name="dino"), small_crops=small, mixing_rate=1.0, crop_size=24)
    views = views_of(run, settings)
    assert [view.shape[-1] for view in views] == [24, 24, 16, 16, 16]
    torch.testing.assert_close(views[1] * 255 > 150, torch.ones(18, 3, 24, 24, dtype=torch.bool))
    assert all((view * 255 < 190).all() for view in views[2:]), "none is cut from a generative view"
    assert not torch.equal(views[2], views[3])


def test_every_view_predicts_the_targets_and_large_ones_alone_leave_statistics(run: Run) -> None:
    alone, together = (
        module_of(run, with_changes(method=DistilSettings(name="distil"), mixing_rate=0.0, small_crops=small))
        for small in (SmallCropsSettings(), SmallCropsSettings(count=2, size=16))
    )
    together.load_state_dict(alone.state_dict())
    tiles = torch.arange(18)
    batch = Batch(0, tiles, {**Reader(run, SETTINGS)(tiles), "targets": torch.randn(18, 5)})
    losses = []
    prediction = Prediction(alone.width, 5, weight=2.0)
    for module in (alone, together):
        module.prediction = prediction
        losses.append(module.training_step(batch))
    after = [dict(module.backbone.named_buffers()) for module in (alone, together)]
    assert all(torch.equal(after[1][key], value) for key, value in after[0].items() if "running" in key)
    seen = [together(view) for view in together.views(batch)]
    assert len(seen) == 4
    each = torch.stack([prediction([representation], batch.data["targets"]) for representation in seen])
    torch.testing.assert_close(losses[1], each.mean())
    torch.testing.assert_close(losses[0], each[:2].mean())


def test_sources_and_anchors_are_what_they_are_called(run: Run) -> None:
    no_change = {
        "handcrafted": HandcraftedSettings(crop=(1.0, 1.0), flip=0, jitter=0, grey=0, blur=(0, 0), solarise=(0, 0))
    }
    raw = views_of(run, with_changes(source="raw", mixing_rate=1.0))[1]
    assert (raw * 255 < 100).all()
    reconstructed = views_of(run, with_changes(source="reconstructed", mixing_rate=1.0))[1]
    torch.testing.assert_close(reconstructed * 255, torch.full_like(reconstructed, 100))
    anchored = views_of(run, with_changes(anchor="reconstructed", mixing_rate=0.0, **no_change))
    for view in anchored:
        torch.testing.assert_close(view * 255, torch.full_like(view, 100))


METHOD_SECTIONS = {
    "vicreg": VICRegSettings, "barlow_twins": BarlowTwinsSettings, "simclr": SimCLRSettings, "byol": ByolSettings,
    "dino": DinoSettings, "swav": SwavSettings, "lejepa": LeJEPASettings,
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL_HEADS)
@pytest.mark.parametrize("step", [3, 4])
def test_the_loss_is_the_mean_over_pairs_that_all_start_from_the_same_state(name: str, step: int, run: Run) -> None:
    """And what a method remembers afterwards is what one pair, in turn, leaves behind."""
    section = METHOD_SECTIONS[name](name=name, **SMALL_HEADS[name])
    small = SmallCropsSettings(count=1, size=16)
    settings = with_changes(method=section, small_crops=small, generative_views=3)
    torch.manual_seed(0)
    module = module_of(run, settings)
    module._share_done = 0.5
    views = [torch.rand(18, 3, SIZE, SIZE) for _ in range(4 + small.count)]
    with torch.no_grad():
        seen = [module(view) for view in views]
    expected, gradients, after = [], [], []
    for pair in range(3):
        method = copy.deepcopy(module.method)
        members = [0, 1 + pair, *range(4, len(views))]
        terms = method([seen[i] for i in members], [views[i] for i in members], 0.5)
        torch.stack(list(terms.values())).sum().backward()
        expected.append(terms)
        gradients.append([w.grad for w in method.parameters() if w.grad is not None])
        after.append(dict(method.named_buffers()))
    found = module._terms(seen, views, step)
    for term, value in found.items():
        torch.testing.assert_close(value, torch.stack([terms[term] for terms in expected]).mean())
    torch.stack(list(found.values())).sum().backward()
    own = [w.grad for w in module.method.parameters() if w.grad is not None]
    for gradient, *each in zip(own, *gradients, strict=True):
        torch.testing.assert_close(gradient, torch.stack(each).mean(dim=0), rtol=1e-4, atol=1e-6)
    left = dict(module.method.named_buffers())
    assert left
    assert all(torch.equal(left[key], after[step % 3][key]) for key in left)
    assert any(not torch.equal(left[key], after[(step + 1) % 3][key]) for key in left)


def test_labels_are_read_for_the_online_knn_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    watching, blind = (module_of(run, with_changes(probe_every=every)).eval() for every in (1, 0))
    with torch.no_grad():
        assert "knn" in watching.evaluate()
        for module in (watching, blind):
            monkeypatch.delattr(module._store, "labels")
        assert set(blind.evaluate()) == {"embedding_std", "effective_rank", "lidar"}
        with pytest.raises(AttributeError, match="labels"):
            watching.evaluate()


def test_two_tiles_show_no_collapse(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their effective rank is below 2 whatever they show."""
    module = module_of(run, with_changes(probe_every=0)).eval()
    valid = module._store.index("valid")
    monkeypatch.setattr(module._store, "watched", lambda most: valid[:2])
    with torch.no_grad():
        assert set(module.evaluate()) == {"lidar"}
    monkeypatch.setattr(module._store, "watched", lambda most: valid[: collapse.LEAST_TILES])
    with torch.no_grad():
        assert "effective_rank" in module.evaluate()


def test_lidar_is_taken_from_the_same_handcrafted_views_each_time_and_draws_nothing_else(run: Run) -> None:
    """Recomputed one view at a time; torch's own generator stands where it stood."""
    module = module_of(run, SETTINGS).eval()
    module._batch = 5
    store, state = module._store, torch.get_rng_state()
    tiles = store.index("valid")
    views = torch.empty(len(tiles), LIDAR_VIEWS, module.backbone.num_features)
    with torch.no_grad():
        figures = [module.evaluate()["lidar"] for _ in range(2)]
        for row, tile in enumerate(tiles):
            for number in range(LIDAR_VIEWS):
                rng, unit = Randomness(0, "lidar", number, tile[None]), store.unit(store.read(tile[None]))
                view = handcrafted.handcrafted(unit, HandcraftedSettings(), number % 2, SIZE, True, rng)
                views[row, number] = module(view)[0]
    assert figures[0] == figures[1]
    assert figures[0] == pytest.approx(lidar(views), rel=1e-3)
    assert torch.equal(torch.get_rng_state(), state)


def test_collapse_is_said_in_words(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    module = module_of(run, SETTINGS).eval()
    with torch.no_grad():
        for weight in module.backbone.parameters():
            weight.zero_()
        figures = module.evaluate()
    assert figures["embedding_std"] < collapse.LEAST_STD
    assert "collapsing" in capsys.readouterr().out

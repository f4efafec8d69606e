"""Which tiles are read for the pairs, and which views take part."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pretraining_runs import handcrafted_view, module_of, run_in, shown, views_at, with_changes

from gcl_custom.pretraining.pairs import Reader
from gcl_custom.recipe.views import ViewsSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_in(tmp_path)


def test_a_view_that_lost_its_content_is_never_used_and_a_handcrafted_one_takes_its_place(run: Run) -> None:
    similarity = torch.rand(18, 3, generator=torch.Generator().manual_seed(0)).numpy()
    np.save(plan.views(run).path / "similarity.npy", similarity)
    settings = with_changes(mixing_rate=1.0, generative_views=2)
    without = views_at(run, settings, 8)
    run.recipe = run.recipe.model_copy(update={"views": ViewsSettings(per_tile=3, least_similarity=0.6)})
    replaced = 0
    for step, (before, after) in enumerate(zip(without, views_at(run, settings, 8), strict=True)):
        for place in (1, 2):
            which = shown(before[place])
            usable = torch.from_numpy(similarity[torch.arange(18), which] >= 0.6)
            assert torch.equal(shown(after[place]), torch.where(usable, which, -1))
            replaced += int((~usable).sum())
            if place == 1:
                expected = handcrafted_view(run, place, torch.arange(18), step=step)
                torch.testing.assert_close(after[place][~usable], expected[~usable])
    assert 0.4 < replaced / (8 * 2 * 18) < 0.8
    assert Reader(run, with_changes(source="raw")).usable(torch.arange(18), 1).all(), "controls have no such views"


def test_a_pair_does_not_depend_on_its_batch(run: Run) -> None:
    settings = with_changes(generative_views=2)
    module, reader, tiles = module_of(run, settings), Reader(run, settings), torch.arange(18)
    together = module.views(Batch(3, tiles, reader(tiles)))
    halves = [module.views(Batch(3, half, reader(half))) for half in (tiles[:7], tiles[7:])]
    for i, view in enumerate(together):
        torch.testing.assert_close(view, torch.cat([half[i] for half in halves]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "sources"),
    [
        ({"mixing_rate": 0.0}, {"raw"}),
        ({"mixing_rate": 0.0, "anchor": "reconstructed"}, {"reconstructed"}),
        ({}, {"raw", "inpainted"}),
        ({"source": "reconstructed"}, {"raw", "reconstructed"}),
        ({"source": "raw"}, {"raw"}),
        ({"anchor": "reconstructed"}, {"reconstructed", "inpainted"}),
    ],
)
def test_reads_only_what_the_pairs_are_made_of(run: Run, changes: dict[str, object], sources: set[str]) -> None:
    assert set(Reader(run, with_changes(**changes))(torch.arange(2))) == sources

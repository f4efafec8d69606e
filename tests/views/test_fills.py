"""Controls of in-painting: the same squares with other contents."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from token_runs import with_views

from gcl_custom.generator.loading import load_generator
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.randomness import Randomness
from gcl_custom.runs import plan
from gcl_custom.views import make_views
from gcl_custom.views.view_store import ViewStore


@pytest.mark.parametrize("fill", ["reconstruction", "other", "noise", "mean"])
def test_a_control_fills_the_same_squares(fill: str, tmp_path: Path) -> None:
    """What is hidden, and so what stays the tile's own, is that of in-painting; each content is what its name says."""
    run = with_views(tmp_path / "r", fill=fill)
    make_views.make_views(run)
    store, made = TileStore(plan.tiles(run).path), ViewStore(plan.views(run).path)
    generator, tiles = load_generator(run, store), store.index("train")
    own = store.read(tiles)
    unit, rng = store.unit(own), Randomness(0, "views", 0, tiles)
    hidden = generator.hidden(rng)[:, None].repeat_interleave(4, 2).repeat_interleave(4, 3).float()
    near, deep = F.max_pool2d(hidden, 5, 1, 2), 1 - F.max_pool2d(1 - hidden, 5, 1, 2)
    read = made.read(tiles, torch.zeros_like(tiles))
    assert torch.equal(read[(near == 0).expand_as(own)], own[(near == 0).expand_as(own)])
    inside = (deep == 1).expand_as(own)
    assert inside.any()
    mean = store.moments[0][:, None, None].expand_as(unit)
    contents = {"reconstruction": generator.decode(generator.encode(unit, rng)), "mean": mean}
    if fill in contents:
        assert torch.equal(read[inside], store.raw(contents[fill])[inside])
    elif fill == "other":  # every square is that of some training tile at the same place
        for view, square, mine in zip(read, inside, own, strict=True):
            assert not square.any() or any(torch.equal(view[square], tile[square]) for tile in own)
            assert not torch.equal(view, mine) or not square.any() or len(own) > 1
    else:
        values = store.unit(read)[inside]
        assert abs(values.mean() - mean[inside].mean()) < 0.1
        assert values.std() > 0.05

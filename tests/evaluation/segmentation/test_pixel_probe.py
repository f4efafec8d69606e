from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from masked_tiles import miou, store_in
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from gcl_custom.evaluation.inference import labelled
from gcl_custom.evaluation.segmentation import pixel_probe
from gcl_custom.evaluation.segmentation.pixel_probe import PixelProbe, Seen, at, pixels_of, probe_pixels
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.label_kinds import LAST_MAP
from gcl_custom.measures.pixel_features import PixelFeatures
from gcl_custom.measures.probes import Linear, Standardised
from gcl_custom.recipe.evaluation import PIXEL_PROBING
from gcl_custom.recipe.hardware import HardwareSettings

HARDWARE = HardwareSettings(accelerator="cpu", precision="fp32")


class TwoMaps(nn.Module):
    """The tile at half its side, then its mean over quarters: two maps."""

    def forward(self, tiles: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(tiles, 2), F.adaptive_avg_pool2d(tiles, 4)]


def probed(
    store: TileStore, network: nn.Module, penalties: Sequence[float] = (1e-4, 1e-2), draws: int = 0
) -> tuple[dict, Tensor]:
    index = {split: labelled(store, split) for split in ("train", "valid", "test")}
    drawn = {"probe@0.5": [index["train"][number::2] for number in range(draws)]} if draws else {}
    return probe_pixels(Seen(network, store, HARDWARE), index, drawn, penalties, index["test"])


@pytest.mark.parametrize("ignored", [0.0, 0.5])
def test_masks_that_a_linear_function_of_pixels_gives_are_found(tmp_path: Path, ignored: float) -> None:
    store = store_in(tmp_path, ignored=ignored)
    outcome, masks = probed(store, PixelFeatures())
    test = labelled(store, "test")
    assert outcome["converged"]
    assert set(outcome) == {"linear", "penalty", "valid", "converged"}
    score = store.kind.score(torch.tensor(outcome["linear"]), store.labels[test])
    assert score > 0.95
    assert score == pytest.approx(miou(masks, store.targets(test)))


def test_a_band_that_shows_nothing_gives_no_masks(tmp_path: Path) -> None:
    class FirstBand(nn.Module):
        def forward(self, tiles: Tensor) -> list[Tensor]:
            return [tiles[:, :1]]

    store = store_in(tmp_path)
    outcome, _ = probed(store, FirstBand())
    assert store.kind.score(torch.tensor(outcome["linear"]), store.labels[labelled(store, "test")]) < 0.5


def test_the_last_map_alone_and_shares_of_the_labels_have_their_own_probes(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    outcome, _ = probed(store, TwoMaps(), draws=2)
    truth = store.labels[labelled(store, "test")]
    both, last = (store.kind.score(torch.tensor(outcome[name]), truth) for name in ("linear", LAST_MAP))
    assert both > last + 0.05  # the last map is too coarse
    draws = torch.tensor(outcome["probe@0.5"])
    assert draws.shape == (2, len(truth), 2, 2)
    assert all(store.kind.score(draw, truth) > 0.8 for draw in draws)


def test_the_probe_is_the_logistic_regression_of_enlarged_maps(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    penalty = 1e-2
    index = {split: labelled(store, split) for split in ("train", "valid", "test")}
    _, masks = probed(store, TwoMaps(), [penalty])

    def enlarged(tiles: Tensor) -> Tensor:
        maps = TwoMaps()(store.unit(store.read(tiles)))
        return torch.cat([F.interpolate(one, size=16, mode="bilinear") for one in maps], dim=1)

    train = torch.cat([index["train"], index["valid"]])
    x, y = enlarged(train).movedim(1, -1).flatten(0, 2), store.targets(train).flatten()
    mean, deviation = (moment(0) for moment in (enlarged(index["train"]).movedim(1, -1).flatten(0, 2).mean, x.std))
    theirs = LogisticRegression(C=2 / (len(x) * penalty), tol=1e-8, max_iter=1000)
    theirs.fit(((x - mean) / deviation).numpy(), y.numpy())
    test = (enlarged(index["test"]).movedim(1, -1).flatten(0, 2) - mean) / deviation
    said = torch.from_numpy(theirs.predict(test.numpy())).reshape(masks.shape)
    assert (said == masks).float().mean() > 0.99


@pytest.mark.parametrize("sides", [(16, 16), (8, 2), (4, 1)])
def test_maps_at_single_pixels_are_those_of_enlarged_maps(sides: tuple[int, int]) -> None:
    maps = [torch.randn(3, side, side, generator=torch.Generator().manual_seed(side)) for side in sides]
    points = torch.tensor([[0, 0], [3, 15], [8, 7], [15, 2]])
    whole = torch.cat([F.interpolate(one[None], size=16, mode="bilinear")[0] for one in maps])
    torch.testing.assert_close(at(points, maps, 16), whole[:, points[:, 0], points[:, 1]].T)


def test_weights_on_standardised_maps_are_folded_into_weights_on_maps() -> None:
    rng = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, 8, 8, generator=rng) * 4 + 7, torch.randn(2, 2, 4, 4, generator=rng)]
    whole = torch.cat([F.interpolate(one, size=16, mode="bilinear") for one in maps], dim=1).movedim(1, -1)
    standardised = Standardised(whole.flatten(0, 2))
    fitted = Linear(torch.randn(3, 5, generator=rng).double(), torch.randn(3, generator=rng).double(), 0.0)
    expected = fitted.scores(standardised(whole.flatten(0, 2))).argmax(1).reshape(2, 16, 16)
    assert (PixelProbe.of(fitted, standardised, slice(0, 5), 5).masks(maps, 16) == expected).float().mean() > 0.999


def test_pixels_of_a_tile_are_the_same_for_every_network_and_have_a_class() -> None:
    mask = torch.zeros(9, 9, dtype=torch.uint8)
    mask[:5] = 255
    few, many = (pixels_of(mask, 7, each) for each in (5, 20))
    assert torch.equal(many[:5], few)
    assert (many[:, 0] >= 5).all()
    assert len(pixels_of(mask, 7, 100)) == 36
    assert not torch.equal(pixels_of(mask, 8, 20), many)


def test_of_many_tiles_some_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_probe, "PIXEL_PROBING", PIXEL_PROBING._replace(pixels=20))
    store = store_in(tmp_path)
    sample = Seen(PixelFeatures(), store, HARDWARE).sample(labelled(store, "train"))
    assert len(sample.x) == len(sample.labels) == 20  # four pixels of five tiles

"""Similarity tile by tile: closed forms and slow formulas."""

import pytest
import torch
import torch.nn.functional as F
from feature_tiles import network, tiles
from torchmetrics.functional.image import structural_similarity_index_measure

from gcl_custom.measures.feature_networks import efficientnet_lite0, enlarged
from gcl_custom.measures.similarity import (
    feature_map_distance,
    perceptual_distance,
    ssim,
    structural_similarity,
    structure_distance,
)


def test_the_similarity_of_flat_tiles_is_in_closed_form_also_under_bf16() -> None:
    """Without variance there is only the luminance term, (2 x y + c) / (x² + y² + c) with c = 0.01²."""
    x, y, c = torch.tensor([0.2, 0.5, 0.7]), torch.tensor([0.2, 0.4, 0.1]), 1e-4
    flat_x, flat_y = (values[:, None, None, None].expand(3, 2, 16, 16) for values in (x, y))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = structural_similarity(flat_x, flat_y)
    torch.testing.assert_close(found, (2 * x * y + c) / (x**2 + y**2 + c), atol=1e-4, rtol=0)


def test_a_single_tile_has_a_similarity_too() -> None:
    tile = torch.rand(1, 3, 16, 16)
    assert structural_similarity(tile, tile).tolist() == pytest.approx([1.0])


def test_the_perceptual_distance_is_the_mean_over_groups_of_bands() -> None:
    network = efficientnet_lite0()
    a, b = torch.rand(2, 2, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    groups = ([0, 1, 2], [3, 4, 0])
    each = [feature_map_distance(network, enlarged(a[:, some]), enlarged(b[:, some])) for some in groups]
    assert perceptual_distance(network, a, b).item() == pytest.approx(torch.stack(each).mean().item())
    assert perceptual_distance(network, a, a).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("side", [8, 32])
def test_similarity_is_that_of_torchmetrics(side: int) -> None:
    a, b = tiles(0, bands=5, side=side), (tiles(0, bands=5, side=side) + 0.3 * tiles(1, bands=5, side=side)) / 1.3
    expected = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    torch.testing.assert_close(structural_similarity(a, b), expected, atol=1e-5, rtol=0)


def test_ssim_is_that_of_torchmetrics_with_a_uniform_window() -> None:
    a, b = tiles(0), (tiles(0) + 0.3 * tiles(1)) / 1.3
    expected = structural_similarity_index_measure(a, b, gaussian_kernel=False, kernel_size=7, data_range=1.0)
    # torchmetrics pads by reflection and cuts the padding off again
    torch.testing.assert_close(ssim(a, b), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("bands", "side"), [(1, 16), (3, 32), (13, 64)])
def test_the_distance_without_a_network_takes_any_bands_and_small_tiles(bands: int, side: int) -> None:
    a, b = tiles(0, bands, side).requires_grad_(), tiles(1, bands, side)
    assert structure_distance(b, b) == pytest.approx(0, abs=1e-5)
    distance = structure_distance(a, b)
    distance.backward()
    assert distance > 0.5
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_the_distance_without_a_network_knows_blur() -> None:
    sharp = tiles(0)
    slight, strong = (F.avg_pool2d(sharp, k, 1, k // 2, count_include_pad=False) for k in (3, 7))
    assert structure_distance(slight, sharp) < structure_distance(strong, sharp)


def test_the_feature_map_distance_is_that_of_the_slow_formula() -> None:
    net, a, b = network(), tiles(0), tiles(1)
    expected = torch.zeros(())
    for of_a, of_b in zip(net.maps(a), net.maps(b), strict=True):
        total = 0.0
        _, _, height, width = of_a.shape
        for tile in range(2):
            for i in range(height):
                for j in range(width):
                    u, v = of_a[tile, :, i, j], of_b[tile, :, i, j]
                    total = total + (u / u.norm() - v / v.norm()).square().sum()
        expected = expected + total / (2 * height * width) / 2
    torch.testing.assert_close(feature_map_distance(net, a, b), expected)

"""Similarity tile by tile: closed forms, and the figures of the loss it shares its distance with."""

import pytest
import torch

from gcl_custom.features import efficientnet_lite0, enlarged
from gcl_custom.generator.vqgan_loss import feature_map_distance
from gcl_custom.similarity import perceptual_distance, structural_similarity


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

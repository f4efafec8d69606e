import math

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from gcl_custom.measures.tile_features import (
    FLATNESS,
    POSITIONS,
    SIDE,
    BandStatistics,
    PatchWords,
    contrasted,
    drawn_patches,
    k_means,
    whitening,
)


def tiles(count: int, bands: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(count, bands, size, size, generator=torch.Generator().manual_seed(seed))


def patches(count: int = 600, seed: int = 1) -> Tensor:
    """Patches whose numbers depend on one another."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, 12, generator=rng) @ torch.randn(12, 12, generator=rng) + 3


def test_statistics_of_each_band_are_numpys() -> None:
    shown = tiles(4, bands=5)
    flat = shown.numpy().reshape(4, 5, -1)
    expected = np.concatenate([flat.mean(2), flat.std(2), flat.min(2), flat.max(2)], axis=1)
    np.testing.assert_allclose(BandStatistics()(shown), expected, atol=1e-6)


def test_a_contrasted_patch_has_no_mean_and_a_flat_one_stays_flat() -> None:
    found = contrasted(torch.stack([tiles(1)[0].flatten(), torch.full((768,), 0.7)], dim=1)[None])[0]
    torch.testing.assert_close(found.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    assert 0.99 < float(found[:, 0].std()) < 1.01
    assert float(found[:, 1].abs().max()) < 1e-3


def test_whitening_is_scikit_learns_pca_but_for_what_is_added_to_the_variances() -> None:
    x = patches()
    mean, matrix = whitening(x)
    pca = PCA().fit(x.numpy().astype(np.float64))
    variances = pca.explained_variance_ * (len(x) - 1) / len(x)  # there over n - 1
    axes = pca.components_ / np.sqrt(variances + 0.1)[:, None]
    expected = (x.numpy() - pca.mean_) @ axes.T
    found = ((x - mean) @ matrix).numpy()[:, ::-1]  # ascending here
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)  # an axis has no sign
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.diag(variances / (variances + 0.1)), atol=1e-4)


def test_k_means_is_scikit_learns() -> None:
    x = patches()
    first = x[:8]
    theirs = KMeans(8, init=first.numpy(), n_init=1, max_iter=20, tol=0, algorithm="lloyd").fit(x.numpy())
    np.testing.assert_allclose(k_means(x, first, rounds=20), theirs.cluster_centers_, atol=1e-3)


def test_a_centre_that_is_nearest_to_nothing_stays() -> None:
    x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    assert k_means(x, torch.tensor([[0.0], [10.0], [99.0]])).tolist() == [[0.5], [10.5], [99.0]]


def test_drawn_patches_are_patches_of_their_tile() -> None:
    shown = tiles(3)
    found = drawn_patches(shown, 4, torch.Generator().manual_seed(5)).view(3, 4, -1)
    for tile, drawn in zip(shown, found, strict=True):
        every = torch.stack([_contrasted(tile[:, i : i + 6, j : j + 6]) for i in range(11) for j in range(11)])
        assert float((drawn[:, None] - every).norm(dim=2).amin(1).max()) < 1e-4


def _contrasted(patch: Tensor) -> Tensor:
    flat = patch.flatten()
    return (flat - flat.mean()) / torch.sqrt(flat.var(correction=0) + FLATNESS)


def test_words_of_patches_are_the_slow_formula() -> None:
    """One patch after another, one word after another; tiles of a size that is cut into patches at a distance."""
    size = SIDE + 2 * POSITIONS
    shown = tiles(2, bands=2, size=size)
    rng = torch.Generator().manual_seed(0)
    network = PatchWords(drawn_patches(shown, 100, rng), rng, words=5)
    step = math.ceil((size - SIDE + 1) / POSITIONS)
    assert step == 3
    for tile, found in zip(shown, network(shown), strict=True):
        near = []
        for i in range(0, size - SIDE + 1, step):
            for j in range(0, size - SIDE + 1, step):
                x = (_contrasted(tile[:, i : i + SIDE, j : j + SIDE]) - network.mean) @ network.matrix
                z = torch.stack([(x - word).norm() for word in network.words])
                near.append((z.mean() - z).clamp(min=0))
        expected = torch.cat([torch.stack(near).mean(0), BandStatistics()(tile[None])[0]])
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_words_are_those_of_the_generator_and_no_more_than_there_are_patches() -> None:
    drawn = drawn_patches(tiles(2), 3, torch.Generator().manual_seed(0))
    first, again, other = (PatchWords(drawn, torch.Generator().manual_seed(seed), words=4) for seed in (1, 1, 2))
    assert torch.equal(first.words, again.words)
    assert not torch.equal(first.words, other.words)
    assert PatchWords(drawn, torch.Generator().manual_seed(1))(tiles(3)).shape == (3, 6 + 12)

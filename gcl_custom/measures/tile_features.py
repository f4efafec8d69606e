"""Features of tiles that need no network: floors under every comparison.

    b  tiles     c  bands     d  numbers of a patch     k  words     n  patches     p  positions of a patch

A backbone that does not beat them has learned nothing that these tiles could show. Both are modules without trained
parameters, so that they are probed as backbones are.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

SIDE = 6
"""Pixels of a patch's side."""
WORDS = 256
"""Centres of the patches."""
POSITIONS = 20
"""The most positions along a tile's side, so that a large tile takes no longer than one of 64 px."""
FLATNESS = 10 / 255**2
"""Added to the variance of a patch, so that a flat patch stays flat (Coates and Ng: 10, of values up to 255)."""
FLOOR_OF_WHITENING = 0.1
"""Added to the variances that whitening makes equal, so that noise is not made as large as the rest."""
ROUNDS = 20
"""Rounds of k-means."""
CHUNK = 32
"""Tiles at a time, so that their distances stay in the processor's cache."""


class BandStatistics(nn.Module):
    """Mean, standard deviation, minimum and maximum of each band."""

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 4*c"]:
        pixels = rearrange(tiles.float(), "b c h w -> b c (h w)")
        return torch.cat([pixels.mean(2), pixels.std(2, correction=0), pixels.amin(2), pixels.amax(2)], dim=1)


def drawn_patches(tiles: Float[Tensor, "b c h w"], each: int, rng: torch.Generator) -> Float[Tensor, "n d"]:
    """So many patches of each tile, from random places, each brought to the same contrast."""
    patches = contrasted(F.unfold(tiles, SIDE))
    places = torch.randint(patches.shape[2], (len(tiles), each), generator=rng)
    return rearrange(patches, "b d p -> b p d")[torch.arange(len(tiles))[:, None], places].flatten(0, 1)


def contrasted(patches: Float[Tensor, "b d p"]) -> Float[Tensor, "b d p"]:
    """Patches with mean 0 and a standard deviation near 1 over their pixels and bands."""
    centred = patches - patches.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + FLATNESS).sqrt()


def whitening(patches: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "d"], Float[Tensor, "d d"]]:
    """The patches' mean, and the matrix W after which ``(x - mean) @ W`` has uncorrelated columns of about one
    variance."""
    mean = patches.mean(0)
    centred = (patches - mean).double()
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(patches))
    return mean, (axes / (variances.clamp(min=0) + FLOOR_OF_WHITENING).sqrt()).to(patches)


def k_means(x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"], rounds: int = ROUNDS) -> Float[Tensor, "k d"]:
    """Lloyd's algorithm from the given centres. A centre that is nearest to nothing stays where it is."""
    for _ in range(rounds):
        nearest = (x @ centres.T - centres.square().sum(1) / 2).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)
        counts = torch.bincount(nearest, minlength=len(centres))[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


class PatchWords(nn.Module):
    """How near a tile's patches are to each of k words, averaged over the tile; after them, the tile's statistics.

    Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning", AISTATS 2011, section
    3.2, with the "triangle" activation: z_j is the distance of a whitened patch to word j, and its activation is
    max(0, mean(z) - z_j). Unlike there, activations are averaged over the whole tile, not over each quadrant: imagery
    from above has no direction, and quadrants scored lower on validation tiles. Their contrast normalisation takes the
    brightness away, so the statistics of each band stand beside the words.
    """

    mean: Float[Tensor, "d"]
    matrix: Float[Tensor, "d d"]
    words: Float[Tensor, "k d"]

    def __init__(self, patches: Float[Tensor, "n d"], rng: torch.Generator, words: int = WORDS) -> None:
        """Find the words among patches as ``drawn_patches`` gives them."""
        super().__init__()
        mean, matrix = whitening(patches)
        x = (patches - mean) @ matrix
        first = torch.randperm(len(x), generator=rng)[:words]
        for name, value in (("mean", mean), ("matrix", matrix), ("words", k_means(x, x[first]))):
            self.register_buffer(name, value)
        self.statistics = BandStatistics()

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b width"]:
        tiles = tiles.float()
        return torch.cat(
            [torch.cat([self._nearness(chunk), self.statistics(chunk)], dim=1) for chunk in torch.split(tiles, CHUNK)]
        )

    def _nearness(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        stride = math.ceil((tiles.shape[-1] - SIDE + 1) / POSITIONS)
        with torch.autocast(tiles.device.type, enabled=False):
            x = rearrange(contrasted(F.unfold(tiles, SIDE, stride=stride)), "b d p -> b p d")
            z = torch.cdist((x - self.mean) @ self.matrix, self.words)
            return F.relu(z.mean(2, keepdim=True) - z).mean(1)

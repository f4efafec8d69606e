"""Edits of a continuous latent, and the generator that makes them its augmentation.

    b  tiles     *latent  axes of a latent: k, the width of a GAN's noise; or d h w, a VQGAN's features

An edit maps latents and a ``Randomness`` to latents. Two edits are here; ``steering`` and ``navigator`` are learned.
The strength of an edit goes from 0, which returns the latent, to 1.

Noise (GenRep, arXiv:2106.05258): z' - m = sqrt(1 - s^2) (z - m) + s σ ε. Departure: GenRep adds s σ ε alone. A Gaussian
latent of k numbers lies near a sphere of radius sqrt(k), and a generator is trained only there. A plain sum leaves the
sphere. This one keeps the mean m and the deviation σ at every strength, and at strength 1 the latent is new.

Interpolation: (1 - t) z + t z', with z' of another tile. Two Gaussian latents are nearly at a right angle, so the
middle of this chord has a length of only 0.71 sqrt(k). There we go along the arc instead (slerp, arXiv:1609.04468). A
VQGAN's features are a map, not Gaussian, and their decoder takes the nearest codes. There the chord is right.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom.generator.augment.interface import Tiles, picture_rows
from gcl_custom.randomness import Randomness

Features = TypeVar("Features")
Edit = Callable[[Tensor, Randomness], Tensor]
"""Latents (b *latent) and the tiles' randomness to edited latents."""


@runtime_checkable
class LatentGenerator(Protocol[Features]):
    """A generator with a continuous latent among its features."""

    device: torch.device
    networks: Sequence[nn.Module]
    gaussian: bool
    """Whether latents are standard normal where the generator was trained."""
    mean: Tensor
    deviation: Tensor
    """Mean and standard deviation of latents, broadcastable to them."""

    def encode(self, tiles: Float[Tensor, "b c y x"], rng: Randomness) -> Features: ...
    def decode(self, features: Features) -> Float[Tensor, "b c y x"]: ...

    def render(self, features: Features) -> Float[Tensor, "b c y x"]:
        """Tiles in [0, 1] of the generator's own side, with a gradient."""

    def latent(self, features: Features) -> Float[Tensor, "b *latent"]: ...
    def replaced(self, features: Features, latent: Float[Tensor, "b *latent"]) -> Features:
        """The features with another latent."""


class AllLatent:
    """For generators whose features are the latent and nothing else."""

    def latent(self, features: Float[Tensor, "b *latent"]) -> Float[Tensor, "b *latent"]:
        """The features."""
        return features

    def replaced(
        self, features: Float[Tensor, "b *latent"], latent: Float[Tensor, "b *latent"]
    ) -> Float[Tensor, "b *latent"]:
        """Other features."""
        return latent


class Edited(Generic[Features]):
    """A generator whose augmentation is an edit of its latent.

    Args:
        edit: one of the edits with its strength bound, such as ``partial(noise, strength=0.3)``.
    """

    def __init__(self, generator: LatentGenerator[Features], edit: Edit) -> None:
        self.generator, self.edit, self.device = generator, edit, generator.device
        self.networks = generator.networks

    def encode(self, tiles: Float[Tensor, "b c y x"], rng: Randomness) -> Features:
        """Tiles in [0, 1] to features."""
        return self.generator.encode(tiles, rng)

    @torch.inference_mode()
    def augment(self, features: Features, rng: Randomness) -> Features:
        """Edit the latent; all other features stay."""
        return self.generator.replaced(features, self.edit(self.generator.latent(features), rng))

    def decode(self, features: Features) -> Float[Tensor, "b c y x"]:
        """Features to tiles in [0, 1]."""
        return self.generator.decode(features)

    def shown(self, tiles: Tiles, features: Features, rng: Randomness) -> list[Tiles]:
        """Rows of a picture; see ``interface.picture_rows``."""
        return picture_rows(self, tiles, features, rng)


def mixed(
    latent: Float[Tensor, "b *latent"], fresh: Float[Tensor, "b *latent"], strength: float
) -> Float[Tensor, "b *latent"]:
    """sqrt(1 - s^2) z + s z'. Two independent latents of mean 0 keep their spread at every strength s."""
    return math.sqrt(1 - strength**2) * latent + strength * fresh


def noise(
    latent: Float[Tensor, "b *latent"],
    rng: Randomness,
    strength: float,
    mean: Float[Tensor, "..."],
    deviation: Float[Tensor, "..."],
) -> Float[Tensor, "b *latent"]:
    """Gaussian noise of the latents' own spread; see the head of this file.

    Args:
        mean, deviation: of latents.
    """
    fresh = rng.normal("latent noise", *latent.shape[1:]).to(latent)
    return mean + mixed(latent - mean, deviation * fresh, strength)


def chord(
    latent: Float[Tensor, "b *latent"], partner: Float[Tensor, "b *latent"], strength: float
) -> Float[Tensor, "b *latent"]:
    """(1 - t) z + t z'."""
    return (1 - strength) * latent + strength * partner


def arc(
    latent: Float[Tensor, "b *latent"], partner: Float[Tensor, "b *latent"], strength: float
) -> Float[Tensor, "b *latent"]:
    """Along the great circle: [sin((1 - t) θ) z + sin(t θ) z'] / sin θ, where θ is the angle between the two.

    At an angle of 0 or π no single great circle exists, so there it is the chord. A latent of zeros counts as at a
    right angle to every other.
    """
    one, other = (F.normalize(each.flatten(1), dim=1) for each in (latent, partner))
    angle = torch.acos((one * other).sum(1).clamp(-1, 1)).view(-1, *[1] * (latent.ndim - 1))
    sine = torch.sin(angle)
    along = (torch.sin((1 - strength) * angle) * latent + torch.sin(strength * angle) * partner) / sine
    return torch.where(sine > 1e-3, along, chord(latent, partner, strength))


def partners(rng: Randomness, among: Int[Tensor, " n"]) -> Int[Tensor, " b"]:
    """Another tile for each tile, drawn evenly. It is a function of the tile, not of the batch.

    Args:
        among: numbers of the tiles to draw from, ascending, at least two.
    """
    tiles = rng.tiles.to(among.device).contiguous()  # a step through a store's numbers is not
    place = torch.searchsorted(among, tiles)
    included = among[place.clamp(max=len(among) - 1)] == tiles
    choices = len(among) - included.long()
    drawn = (rng.uniform("partner", 1)[:, 0].to(among.device) * choices).long()
    return among[drawn + (included & (drawn >= place)).long()]


class Interpolation(Generic[Features]):
    """Moves a tile's latent towards that of another tile, along the arc where latents are Gaussian.

    Args:
        among: numbers of the training tiles, ascending, at least two.
        encode: gives the features of tiles by their numbers.
    """

    def __init__(
        self,
        generator: LatentGenerator[Features],
        among: Int[Tensor, " n"],
        encode: Callable[[Tensor, Randomness], Features],
    ) -> None:
        self.generator, self.among, self.encode = generator, among, encode

    def apply_to(
        self, latent: Float[Tensor, "b *latent"], rng: Randomness, strength: float
    ) -> Float[Tensor, "b *latent"]:
        """Go the share ``strength`` of the way. The partner has the latent that it also has as a tile itself."""
        numbers = partners(rng, self.among)
        # Step 0 is where tiles are encoded, whatever the number of the view.
        rng_of_partners = dataclasses.replace(rng, step=0, tiles=numbers.to(rng.tiles.device))
        partner = self.generator.latent(self.encode(numbers, rng_of_partners))
        return (arc if self.generator.gaussian else chord)(latent, partner, strength)

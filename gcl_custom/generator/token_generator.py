"""The generator of tokens: a tokenizer encodes and decodes, a label-free transformer augments.

b  tiles     c  bands     y x  pixels     h w  grid of tokens
"""

import copy
from collections.abc import Sequence

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gcl_custom import recipe
from gcl_custom.devices import autocast, uses_bf16
from gcl_custom.generator.inpainting import inpaint
from gcl_custom.generator.masks import hide
from gcl_custom.generator.networks import AnyTokenizer, AnyTransformer
from gcl_custom.randomness import Randomness
from gcl_custom.recipe_generator import Views


class TokenGenerator:
    """Its features are the tokens of a VQGAN, augmented by a MaskGIT; own networks, or public ones.

    Args:
        tokenizer, maskgit: trained networks; MaskGIT is copied, in bf16 where the hardware has it.
    """

    def __init__(
        self,
        tokenizer: AnyTokenizer,
        maskgit: AnyTransformer,
        settings: Views,
        hardware: recipe.Hardware,
        device: torch.device,
    ) -> None:
        self.settings, self.device, self._hardware = settings, device, hardware
        self.tokenizer = tokenizer.to(device).eval()
        precision = torch.bfloat16 if uses_bf16(hardware, device) else torch.float32
        self.maskgit = copy.deepcopy(maskgit).to(device, precision).eval()
        self.networks: Sequence[nn.Module] = (self.tokenizer, self.maskgit)

    def at(self, mask_probability: float) -> "TokenGenerator":
        """The same networks at another strength."""
        other = copy.copy(self)
        other.settings = self.settings.model_copy(update={"mask_probability": mask_probability})
        return other

    @torch.inference_mode()
    def encode(self, tiles: Float[Tensor, "b c y x"], rng: Randomness) -> Int[Tensor, "b h w"]:
        """Tiles in [0, 1] to tokens."""
        with autocast(self._hardware, self.device):
            return self.tokenizer.tokenise(tiles.to(self.device))

    def hidden(self, rng: Randomness) -> Bool[Tensor, "b h w"]:
        """The tokens that ``augment`` hides."""
        return hide(rng, self.settings.mask_probability, self.maskgit.grid, self.maskgit.grid)

    def augment(self, tokens: Int[Tensor, "b h w"], rng: Randomness) -> Int[Tensor, "b h w"]:
        """Hide tokens at random and in-paint them; the mask probability is the strength."""
        return inpaint(self.maskgit, tokens, self.hidden(rng), rng, self.settings)

    @torch.inference_mode()
    def decode(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b c y x"]:
        """Tokens to tiles in [0, 1]."""
        with autocast(self._hardware, self.device):
            return self.tokenizer.decode_tokens(tokens).float()

    def shown(self, tiles: Float[Tensor, "b c y x"], rng: Randomness) -> list[Float[Tensor, "b c y x"]]:
        """Rows of a picture: tiles, their reconstructions, the hidden squares in grey, and generative views."""
        tiles, tokens, hidden = tiles.to(self.device), self.encode(tiles, rng), self.hidden(rng)
        square = tiles.shape[-1] // self.maskgit.grid
        covered = repeat(hidden, "b h w -> b 1 (h p) (w q)", p=square, q=square)
        return [tiles, self.decode(tokens), tiles.masked_fill(covered, 0.5), self.decode(self.augment(tokens, rng))]

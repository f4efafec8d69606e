"""A VQGAN and a MaskGIT as they are usually written, in fp32, for comparison.

The VQGAN is built and trained as in taming-transformers, the code of arXiv:2012.09841: convolutions at every resolution
from the pixels down to the tokens, two residual blocks at each in the encoder and three in the decoder, attention at
the tokens' resolution and in the middle, a codebook that is learned by gradient, Adam. In a training step the generator
has its turn, for which the adaptive weight runs both losses backwards once more; then the discriminator has its turn,
for which tiles are reconstructed anew.

Assumed, in its favour: the two coarsest resolutions are as wide as ours, and the finer ones half as wide as the second;
taming's public networks are 128 channels wide at the pixels already. Losses and discriminator are ours, so networks and
steps alone differ; taming's LPIPS with VGG-16 would cost more.

MaskGIT (arXiv:2202.04200) is BERT with torch's own encoder: tiles are encoded at each step, and logits are computed of
all tokens. Its layers are pre-norm, with which a transformer bears our learning rate.

Shapes: b tiles, c bands, k channels, H W pixels, d width of a code, h w tokens along the sides.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gcl_custom.generator.own.vqgan_loss import ADAPTIVE_MOST, Discriminator, Reconstruction, hinge
from gcl_custom.recipe.generator import MaskGITSettings, TokenizerSettings

BLOCKS = 2
"""Residual blocks at each resolution of the encoder; one more in the decoder."""
BETA = 0.25
"""Weight of the loss that draws features to their codes."""


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels), channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Norm, swish and convolution, twice; a 1x1 convolution beside them where the width changes."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_norm(before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.second = nn.Sequential(_norm(after), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1))
        self.beside = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Float[Tensor, "b k h w"]) -> Float[Tensor, "b _k h w"]:
        out: Tensor = self.beside(x) + self.second(self.first(x))
        return out


class Attention(nn.Module):
    """Attention of one head over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.query, self.key, self.value, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        normed = self.norm(x)
        query, key, value = (part(normed).flatten(2) for part in (self.query, self.key, self.value))
        weights = (query.transpose(1, 2) @ key * x.shape[1] ** -0.5).softmax(dim=2)
        out: Tensor = self.out((value @ weights.transpose(1, 2)).view_as(x))
        return x + out


def _middle(channels: int) -> list[nn.Module]:
    return [ResidualBlock(channels, channels), Attention(channels), ResidualBlock(channels, channels)]


class PlainVQGAN(nn.Module):
    """Encoder, quantizer and decoder. It has the methods by which ``Quality`` measures a tokenizer."""

    def __init__(self, bands: int, settings: TokenizerSettings) -> None:
        super().__init__()
        self.codes = settings.codes
        fine, wide = settings.channels // 2, settings.channels
        halvings = settings.pixels_per_token.bit_length() - 1
        widths = [fine // 2] * (halvings - 1) + [fine, wide]  # from the pixels to the tokens
        down: list[nn.Module] = [nn.Conv2d(bands, widths[0], 3, padding=1)]
        before = widths[0]
        for level, width in enumerate(widths):
            for _ in range(BLOCKS):
                down.append(ResidualBlock(before, width))
                before = width
                if level == halvings:
                    down.append(Attention(width))
            if level < halvings:
                down += [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2)]
        down += [*_middle(wide), _norm(wide), nn.SiLU(), nn.Conv2d(wide, settings.code_width, 3, padding=1)]
        self.encoder = nn.Sequential(*down, nn.Conv2d(settings.code_width, settings.code_width, 1))
        self.codebook = nn.Embedding(settings.codes, settings.code_width)
        nn.init.uniform_(self.codebook.weight, -1 / settings.codes, 1 / settings.codes)
        up: list[nn.Module] = [nn.Conv2d(settings.code_width, settings.code_width, 1)]
        up += [nn.Conv2d(settings.code_width, wide, 3, padding=1), *_middle(wide)]
        before = wide
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(BLOCKS + 1):
                up.append(ResidualBlock(before, width))
                before = width
                if level == halvings:
                    up.append(Attention(width))
            if level:
                up += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)]
        self.decoder = nn.Sequential(*up, _norm(before), nn.SiLU())
        self.head = nn.Conv2d(before, bands, 3, padding=1)

    @property
    def last_layer(self) -> Tensor:
        """Weights at which the adaptive weight compares gradients."""
        return self.head.weight

    def forward(self, tiles: Float[Tensor, "b c H W"]) -> tuple[Float[Tensor, "b c H W"], Float[Tensor, ""]]:
        """Reconstructions and the quantizer's loss."""
        features = self.encoder(2 * tiles - 1)
        codes = self.codebook(self._nearest(features)).permute(0, 3, 1, 2)
        loss = BETA * F.mse_loss(features, codes.detach()) + F.mse_loss(codes, features.detach())
        return self._decode(features + (codes - features).detach()), loss

    def tokenise(self, tiles: Float[Tensor, "b c H W"]) -> Int[Tensor, "b h w"]:
        """Tokens of tiles in [0, 1]."""
        return self._nearest(self.encoder(2 * tiles - 1))

    def decode_tokens(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b c H W"]:
        """Tiles in [0, 1] from tokens."""
        return self._decode(self.codebook(tokens).permute(0, 3, 1, 2)).clamp(0, 1)

    def _decode(self, codes: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c H W"]:
        pixels: Tensor = self.head(self.decoder(codes))
        return (pixels + 1) / 2

    def _nearest(self, features: Float[Tensor, "b d h w"]) -> Int[Tensor, "b h w"]:
        flat = features.permute(0, 2, 3, 1)
        away = flat.square().sum(3, keepdim=True) + self.codebook.weight.square().sum(1)
        return (away - 2 * flat @ self.codebook.weight.T).argmin(3)


class PlainTokenizerTraining:
    """The steps of both optimizers."""

    def __init__(
        self, net: PlainVQGAN, bands: int, settings: TokenizerSettings, reconstruction: Reconstruction
    ) -> None:
        self.net, self.discriminator = net, Discriminator(bands, settings.adversary_channels)
        self.discriminator.to(memory_format=torch.contiguous_format)
        self._weight, self._reconstruction = settings.adversary_weight, reconstruction
        self._generates, self._discriminates = (
            torch.optim.Adam(part.parameters(), settings.learning_rate, betas=(0.5, 0.9))
            for part in (self.net, self.discriminator)
        )

    def step(self, tiles: Float[Tensor, "b c h w"], joined: bool) -> Float[Tensor, ""]:
        """Train on a batch of tiles in [0, 1].

        Args:
            joined: whether the discriminator takes part.

        Returns:
            The adaptive weight; 0 without the discriminator.
        """
        fake, loss = self.net(tiles)
        reconstruction, _ = self._reconstruction(fake, tiles)
        loss, adaptive = loss + reconstruction, torch.zeros(())
        if joined:
            adversarial = -self.discriminator(fake).mean()
            norms = [
                torch.autograd.grad(term, self.net.last_layer, retain_graph=True)[0].norm()
                for term in (reconstruction, adversarial)
            ]
            adaptive = (norms[0] / (norms[1] + 1e-4)).clamp(max=ADAPTIVE_MOST).detach()
            loss = loss + self._weight * adaptive * adversarial
        _descend(self._generates, loss)
        if joined:
            fake, _ = self.net(tiles)
            _descend(self._discriminates, hinge(self.discriminator(tiles), self.discriminator(fake.detach())))
        return adaptive


class PlainMaskGIT(nn.Module):
    """BERT over tokens: embeddings, layers, and logits of all positions by the embedding."""

    def __init__(self, codes: int, grid: int, settings: MaskGITSettings) -> None:
        super().__init__()
        width = settings.width
        self.codes, self.smoothing = codes, settings.label_smoothing
        self.embedding = nn.Embedding(codes + 1, width)
        self.position = nn.Parameter(torch.empty(grid * grid, width))
        for weight in (self.embedding.weight, self.position):
            nn.init.trunc_normal_(weight, std=0.02)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(
            width, settings.heads, 4 * width, settings.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, settings.depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(codes))

    def loss(
        self, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"], smoothing: float | None = None
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy of the hidden tokens in nats."""
        embedded = self.embedding(tokens.masked_fill(hidden, self.codes).flatten(1)) + self.position
        states = self.head(self.layers(self.norm(embedded)))
        logits = F.linear(states, self.embedding.weight[: self.codes], self.bias)
        smoothing = self.smoothing if smoothing is None else smoothing
        each = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none", label_smoothing=smoothing)
        return (each * hidden.flatten()).sum() / hidden.sum()


def _descend(optimizer: torch.optim.Optimizer, loss: Float[Tensor, ""]) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

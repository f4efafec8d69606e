"""BigGAN's generator, conditioned on an instance's features: the network of IC-GAN, read from its public weights.

BigGAN: arXiv:1809.11096, section 4 and appendix B; its attention: SAGAN, arXiv:1805.08318; IC-GAN: arXiv:2109.05070.

    b  tiles     k  width of the noise z, a chunk for the start and one for each block     f  width of the condition
    e  width of the embedded condition     n h w  channels and pixels of a map

    x = linear(z_0); for each block i: x = block_i(x, [W condition + c, z_i]); tile = tanh(conv(relu(norm(x))))
    block(x, y) = conv2(relu(norm2(conv1(up(relu(norm1(x, y)))), y))) + conv_sc(up(x))
    norm(x, y) = (1 + G y) (x - mean) / sqrt(variance + 1e-5) + B y, with the stored mean and variance

Every size is read from the tensors. The rest is as published: each block doubles the side, by nearest neighbours;
kernels of 3 pixels are padded by 1; activations are ReLU; the constant is 1e-5.

The weights are trained with spectral normalisation (arXiv:1802.05957): each was divided by an estimate of its largest
singular value, one step of power iteration from the stored vector ``u0``. In evaluation that vector stays the same. So
the weights are divided once, on loading, and files saved from here hold the quotients.

Two savings are exact. ``conv_sc`` has kernels of one pixel, so it runs before the enlarging, on a quarter of the
pixels. The two affine maps of a normalisation are merged.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.weights.state_dicts import first_of, fit_state, numbered, read_state, shape_of

EPSILON = 1e-5
"""Added to variances, as published."""
State = dict[str, Tensor]


class Sizes(NamedTuple):
    """The sizes of one generator of this family."""

    condition: int
    embedded: int
    chunk: int
    """Numbers of z that the start and each block get."""
    bottom: int
    """Side in pixels of the map that blocks start from."""
    channels: tuple[tuple[int, int], ...]
    """Channels into and out of each block."""
    attention: frozenset[int]
    """Blocks that attention follows."""


class Norm(nn.Module):
    """Batch normalisation with stored statistics and a learned gain and bias."""

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        return F.batch_norm(x, self.stored_mean, self.stored_var, self.gain, self.bias, eps=EPSILON)


class ConditionalNorm(nn.Module):
    """Batch normalisation with stored statistics, whose gain and bias are linear in a vector of the tile."""

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))
        self.gain = nn.Linear(width, channels, bias=False)
        self.bias = nn.Linear(width, channels, bias=False)

    def forward(self, x: Float[Tensor, "b n h w"], y: Float[Tensor, "b e_and_chunk"]) -> Float[Tensor, "b n h w"]:
        scale = (1 + self.gain(y)) * torch.rsqrt(self.stored_var + EPSILON)
        shift = self.bias(y) - self.stored_mean * scale
        return torch.addcmul(shift[..., None, None], x, scale[..., None, None])


class Block(nn.Module):
    """A residual block that doubles the side of its map."""

    def __init__(self, entering: int, leaving: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(entering, leaving, 3, padding=1)
        self.conv2 = nn.Conv2d(leaving, leaving, 3, padding=1)
        self.conv_sc = nn.Conv2d(entering, leaving, 1)
        self.bn1 = ConditionalNorm(entering, width)
        self.bn2 = ConditionalNorm(leaving, width)

    def forward(self, x: Float[Tensor, "b m h w"], y: Float[Tensor, "b e_and_chunk"]) -> Float[Tensor, "b n _ _"]:
        inner = self.conv1(F.interpolate(F.relu(self.bn1(x, y)), scale_factor=2.0))
        return self.conv2(F.relu(self.bn2(inner, y))) + F.interpolate(self.conv_sc(x), scale_factor=2.0)


class Attention(nn.Module):
    """x + gamma * attention(x): every pixel asks every square of 2 by 2 pixels, whose keys and values are maxima."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.phi = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.g = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.o = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        maps = self.theta(x), F.max_pool2d(self.phi(x), 2), F.max_pool2d(self.g(x), 2)
        asked, keys, values = (rearrange(each, "b n h w -> b (h w) n") for each in maps)
        found = F.scaled_dot_product_attention(asked, keys, values, scale=1.0)
        return x + self.gamma * self.o(rearrange(found, "b (h w) n -> b n h w", h=x.shape[2]))


class BigGAN(nn.Module):
    """The generator, in evaluation only; its state has the public names, without the vectors of spectral norm."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        first, last = sizes.channels[0][0], sizes.channels[-1][1]
        width = sizes.embedded + sizes.chunk
        self.shared_feat = nn.Linear(sizes.condition, sizes.embedded)
        self.linear = nn.Linear(sizes.chunk, first * sizes.bottom**2)
        self.blocks = nn.ModuleList(
            nn.ModuleList([Block(*channels, width)] + [Attention(channels[1])] * (i in sizes.attention))
            for i, channels in enumerate(sizes.channels)
        )
        self.output_layer = nn.Sequential(Norm(last), nn.ReLU(), nn.Conv2d(last, 3, 3, padding=1))

    @property
    def noise_width(self) -> int:
        """Numbers in a z."""
        return self.sizes.chunk * (len(self.sizes.channels) + 1)

    @property
    def side(self) -> int:
        """Pixels along a tile that it gives."""
        return self.sizes.bottom * 2 ** len(self.sizes.channels)

    def forward(self, z: Float[Tensor, "b k"], condition: Float[Tensor, "b f"]) -> Float[Tensor, "b 3 side side"]:
        """Tiles in [-1, 1] from noise and the instance's features, which the caller scales to length 1."""
        embedded = self.shared_feat(condition)
        start, *chunks = z.split(self.sizes.chunk, dim=1)
        x = rearrange(self.linear(start), "b (n h w) -> b n h w", h=self.sizes.bottom, w=self.sizes.bottom)
        for block, chunk in zip(self.blocks, chunks, strict=True):
            residual, *attention = block.children()
            x = residual(x, torch.cat([embedded, chunk], dim=1))
            for attend in attention:
                x = attend(x)
        return torch.tanh(self.output_layer(x))

    @classmethod
    def from_file(cls, path: Path, where: str) -> "BigGAN":
        """The generator in a file such as ``G_ema_best0.pth``, or in one that was saved from here.

        Args:
            where: what a message shall call the file's place.

        Raises:
            UserError: the file cannot be read; a key is missing, surplus or of another shape; or the generator also
                wants a class.
        """
        state = read_state(path, where, prefixes=("module.",))
        source = f"{where}: {path}"
        sizes = _sizes(state, source)
        state.pop("shared.weight", None)  # embedding of classes, stored although the generator knows none
        network = cls(sizes)
        fit_state(source, folded(state, source), network)
        return network.eval()


def _sizes(state: State, source: str) -> Sizes:
    embedded, condition = shape_of(source, state, "shared_feat.weight", 2)
    out, chunk = shape_of(source, state, "linear.weight", 2)
    blocks = range(max(1, numbered(state, "blocks.")))
    kernels = [shape_of(source, state, f"blocks.{i}.0.conv1.weight", 4) for i in blocks]
    wanted = shape_of(source, state, "blocks.0.0.bn1.gain.weight", 2)[1] - embedded - chunk
    if wanted and wanted == state.get("shared.weight", torch.empty(0, 0)).shape[1]:
        raise UserError(
            f"{source} also wants a class, of which unlabelled tiles have none: take the weights of an IC-GAN whose "
            f"name does not start with cc_"
        )
    return Sizes(
        condition=condition,
        embedded=embedded,
        chunk=chunk,
        bottom=math.isqrt(out // kernels[0][1]),
        channels=tuple((kernel[1], kernel[0]) for kernel in kernels),
        attention=frozenset(i for i in blocks if any(name.startswith(f"blocks.{i}.1.") for name in state)),
    )


def folded(state: State, source: str) -> State:
    """The state with each weight divided by its spectral norm, and without the vectors that tell the norm.

    Raises:
        UserError: some weights have their vector and others do not, or one has another length than its weight.
    """
    if not any(name.endswith(".u0") for name in state):
        return state  # saved from here
    if faults := list(_faults(state)):
        raise UserError(f"{source} does not fit BigGAN: {first_of(faults)}")
    kept = {name: value for name, value in state.items() if not name.endswith((".u0", ".sv0"))}
    vectors = {name.removesuffix("u0") + "weight": value for name, value in state.items() if name.endswith(".u0")}
    return kept | {name: kept[name] / spectral_norm(kept[name], u) for name, u in vectors.items() if name in kept}


def _faults(state: State) -> Iterator[str]:
    for name, value in state.items():
        u = name.removesuffix("weight") + "u0"
        if name.endswith(".weight") and u not in state:
            yield f"missing {u}"
        elif name.endswith(".weight") and state[u].shape != (1, len(value)):
            yield f"{u} is {tuple(state[u].shape)}, not {(1, len(value))}"


def spectral_norm(weight: Float[Tensor, "n *rest"], u: Float[Tensor, "1 n"]) -> Float[Tensor, ""]:
    """The largest singular value of a weight as a matrix of n rows, by one step of power iteration from ``u``."""
    matrix = weight.flatten(1)
    right = F.normalize(u @ matrix, eps=1e-12)
    return (right @ matrix.T).norm()

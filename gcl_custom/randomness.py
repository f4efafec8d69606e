"""Randomness as a pure function of (seed, stage, step, tile).

At each step a tile draws the same numbers, whatever batch, process or device it is in, and however often training was
interrupted. The generator is counter-based: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014) hashes (key, tile, counter), and the key hashes everything else.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def derive(seed: int, *parts: object) -> int:
    """A 63-bit seed for a torch generator: a hash of a seed and of the parts that name the draw."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit number."""
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift. Torch's own shift keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _splitmix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, whose products wrap like unsigned ones."""
    x = (x ^ _shifted(x, 30)) * _MIX_1
    x = (x ^ _shifted(x, 27)) * _MIX_2
    return x ^ _shifted(x, 31)


@dataclass(frozen=True)
class Randomness:
    """Random numbers for some tiles at one step of a stage. Draws with different names are independent."""

    seed: int
    stage: str
    step: int
    tiles: Int[Tensor, " b"]

    def uniform(self, name: str, *shape: int) -> Float[Tensor, "b *shape"]:
        """Uniform numbers in [0, 1) with 24 bits, on the device of ``tiles``."""
        key = derive(self.seed, self.stage, self.step, name)
        count = math.prod(shape)
        streams = _splitmix((self.tiles.long() + 1) * _GOLDEN ^ key)
        counters = torch.arange(1, count + 1, device=self.tiles.device) * _GOLDEN
        bits = _splitmix(streams[:, None] + counters)
        return (_shifted(bits, 40).float() * 2.0**-24).view(len(self.tiles), *shape)

    def normal(self, name: str, *shape: int) -> Float[Tensor, "b *shape"]:
        """Standard normal numbers, by the Box-Muller transform."""
        u = self.uniform(name, *shape, 2)
        return torch.sqrt(-2 * torch.log1p(-u[..., 0])) * torch.cos(2 * math.pi * u[..., 1])

    def generators(self, name: str) -> list[torch.Generator]:
        """One CPU generator for each tile, for samplers of other libraries that do not take numbers."""
        seeds = [derive(self.seed, self.stage, self.step, name, tile) for tile in self.tiles.tolist()]
        return [torch.Generator().manual_seed(seed) for seed in seeds]

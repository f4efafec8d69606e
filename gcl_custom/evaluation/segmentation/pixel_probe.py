"""The linear probe of pixels: a class for each pixel from the maps of a frozen network.

    b  tiles     d  channels of all maps     c  classes     h w  pixels of a tile     n  pixels to fit a probe to

The probe is a convolution of 1 by 1 pixels on each map, whose logits are enlarged bilinearly to the tile and summed.
Interpolation is linear, too, so these are the logits of maps that are enlarged first. Therefore the probe is fitted as
a logistic regression to the enlarged maps at single pixels, drawn at random from the training tiles: the same ones for
every network. The penalty is the one with the best mIoU on whole validation tiles.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from gcl_custom.imagery.tile_store import TileStore, spread
from gcl_custom.measures.label_kinds import LAST_MAP, SINGLE_LABEL
from gcl_custom.measures.overlap import IGNORED, overlaps
from gcl_custom.measures.probes import Linear, Standardised, Turned, fit_linear
from gcl_custom.randomness import derive
from gcl_custom.recipe.evaluation import PENALTY_OF_FEW, PIXEL_PROBING
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training.devices import autocast, pick_device
from gcl_custom.training.launched import sent, shared

Made = TypeVar("Made")
BATCH = 32


@dataclass(frozen=True)
class Sample:
    """Pixels of some tiles: what each map holds there, side by side, and their classes."""

    x: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]


@dataclass(frozen=True)
class PixelProbe:
    """A fitted probe. Its weights act on the maps as they are, not standardised."""

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]

    @classmethod
    def of(cls, fitted: Linear, standardised: Standardised, columns: slice, width: int) -> "PixelProbe":
        """A regression on some columns of standardised maps; it sees nothing of the others."""
        scaled = fitted.weight * standardised.scale[columns]
        weight = scaled.new_zeros(len(scaled), width)
        weight[:, columns] = scaled
        return cls(weight.float(), (fitted.bias - scaled @ standardised.mean[columns]).float())

    def to(self, device: torch.device) -> "PixelProbe":
        return PixelProbe(self.weight.to(device), self.bias.to(device))

    def masks(self, maps: Sequence[Float[Tensor, "b _ _ _"]], size: int) -> Int[Tensor, "b h w"]:
        """The class of each pixel."""
        logits = self.bias[:, None, None]
        for weight, one in zip(torch.split(self.weight, [one.shape[1] for one in maps], dim=1), maps, strict=True):
            part = F.conv2d(one, weight[:, :, None, None])
            logits = logits + F.interpolate(part, size=(size, size), mode="bilinear")
        return logits.argmax(1)


@dataclass(frozen=True)
class Seen:
    """A network that gives maps, and the tiles that it sees."""

    network: nn.Module
    store: TileStore
    hardware: HardwareSettings

    def maps(
        self, tiles: Int[Tensor, " b"]
    ) -> Iterator[tuple[Int[Tensor, " some"], list[Float[Tensor, "some _ _ _"]]]]:
        """Numbers of tiles and their maps, in evaluation mode, batch by batch."""
        device = pick_device(self.hardware)
        self.network.eval().to(device)
        for some in torch.split(tiles, BATCH):
            with torch.inference_mode(), autocast(self.hardware, device):
                unit = self.store.unit(self.store.read(some).to(device))
                found = self.network(unit.contiguous(memory_format=torch.channels_last))
            yield some, [one.float() for one in found]

    def sample(self, tiles: Int[Tensor, " b"]) -> Sample:
        """Random pixels of the tiles that have a class; of a tile always the same first ones."""
        tiles = spread(tiles, PIXEL_PROBING.pixels // PIXEL_PROBING.least)
        each = max(PIXEL_PROBING.least, PIXEL_PROBING.pixels // max(1, len(tiles)))
        found = list(self._shared(partial(_pixels, each=each), tiles))
        device = pick_device(self.hardware)
        return Sample(*(torch.cat(column).to(device) for column in zip(*found, strict=True)))

    def overlaps(self, probes: Sequence[PixelProbe], tiles: Int[Tensor, " b"]) -> Int[Tensor, "probes b c 2"]:
        """What is kept of each probe's masks."""
        movable = [probe.to(torch.device("cpu")) for probe in probes]
        return torch.cat(list(self._shared(partial(_overlaps, probes=movable), tiles)), dim=1)

    def _shared(self, make: Callable[..., Iterator[Made]], tiles: Int[Tensor, " b"]) -> Iterator[Made]:
        """What is made of each batch; processes that a launcher started share the batches."""
        seen = replace(self, network=sent(self.network))
        return shared(partial(make, seen), torch.split(tiles, BATCH))


def _pixels(seen: Seen, batches: Sequence[Tensor], each: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The values of so many pixels of each tile, and their classes."""
    for some in batches:
        (_, maps), rows, labels = next(seen.maps(some)), [], []
        for place, (tile, mask) in enumerate(zip(some.tolist(), seen.store.targets(some), strict=True)):
            points = pixels_of(mask, tile, each)
            rows.append(at(points, [one[place] for one in maps], seen.store.size))
            labels.append(mask[points[:, 0], points[:, 1]].long())
        yield torch.cat(rows).cpu(), torch.cat(labels)


def _overlaps(seen: Seen, batches: Sequence[Tensor], probes: Sequence[PixelProbe]) -> Iterator[Tensor]:
    """What is kept of each probe's masks of a batch."""
    probes = [probe.to(pick_device(seen.hardware)) for probe in probes]
    for some in batches:
        (_, maps), truth = next(seen.maps(some)), seen.store.targets(some)
        said = [probe.masks(maps, seen.store.size).cpu() for probe in probes]
        yield torch.stack([overlaps(mask, truth, len(seen.store.classes)) for mask in said])


def pixels_of(mask: UInt8[Tensor, "h w"], tile: int, each: int) -> Int[Tensor, "k 2"]:
    """Row and column of random pixels that have a class; fewer are a part of more."""
    there = torch.nonzero(mask != IGNORED)
    order = torch.randperm(len(there), generator=torch.Generator().manual_seed(derive(0, "pixels", tile)))
    return there[order[:each]]


def at(points: Int[Tensor, "k 2"], maps: Sequence[Float[Tensor, "_ _ _"]], size: int) -> Float[Tensor, "k d"]:
    """The values of one tile's maps at its pixels, as if they were enlarged to the tile."""
    grid = ((2 * points.flip(1) + 1) / size - 1)[None, None]
    found = [
        F.grid_sample(one[None], grid.to(one), mode="bilinear", padding_mode="border", align_corners=False)
        for one in maps
    ]
    return rearrange(torch.cat(found, dim=1), "1 d 1 k -> k d")


def probe_pixels(
    seen: Seen, index: Mapping[str, Int[Tensor, " _"]], draws: Mapping[str, Sequence[Int[Tensor, " _"]]],
    penalties: Sequence[float], shown: Int[Tensor, " _"],
) -> tuple[dict[str, Any], UInt8[Tensor, "shown h w"]]:  # fmt: skip
    """Probes with all labels, of all maps and, if there are several, of the last alone; with fewer labels, of all maps.

    Args:
        index: labelled tiles of each split.
        draws: metric -> for each draw of labels, the tiles that have them.
        shown: tiles whose masks are returned, too.

    Returns:
        By metric what is kept of the test tiles' masks, and the penalty, the validation score and whether all
        converged; and the masks of the tiles to show, by the first probe.
    """
    store, kind = seen.store, seen.store.kind
    train, valid = seen.sample(index["train"]), seen.sample(spread(index["valid"], PIXEL_PROBING.valid))
    standardised = Standardised(train.x)
    width = train.x.shape[1]
    _, maps = next(seen.maps(index["train"][:1]))
    columns = {"linear": slice(0, width)}
    if len(maps) > 1:
        columns[LAST_MAP] = slice(width - maps[-1].shape[1], width)
    found: dict[str, PixelProbe] = {}
    chosen: dict[str, tuple[float, float]] = {}
    converged = True
    classes = len(store.classes)
    for name, part in columns.items():
        x, valid_x = standardised(train.x)[:, part], standardised(valid.x)[:, part]
        falling = sorted(penalties, reverse=True)
        path = list(_path(x, train.labels, classes, falling))
        tried = [PixelProbe.of(fitted, standardised, part, width) for fitted in path]
        some = spread(index["valid"], PIXEL_PROBING.valid)
        scores = [kind.score(kept, store.labels[some]) for kept in seen.overlaps(tried, some)]
        best = max(range(len(falling)), key=scores.__getitem__)  # the strongest of equal ones
        labels = torch.cat([train.labels, valid.labels])
        final = fit_linear(
            torch.cat([x, valid_x]),
            labels,
            SINGLE_LABEL,
            classes,
            falling[best],
            start=path[best],
            tolerance=PIXEL_PROBING.at_the_end,
        )
        converged = converged and final.gradient <= PIXEL_PROBING.at_the_end
        found[name], chosen[name] = PixelProbe.of(final, standardised, part, width), (falling[best], scores[best])
    few: list[PixelProbe] = []
    for drawn in (tiles for all_draws in draws.values() for tiles in all_draws):
        some_pixels = seen.sample(drawn)
        penalty = PENALTY_OF_FEW * max(1, standardised.varying)
        fitted = fit_linear(
            standardised(some_pixels.x),
            some_pixels.labels,
            SINGLE_LABEL,
            classes,
            penalty,
            tolerance=PIXEL_PROBING.at_the_end,
        )
        converged = converged and fitted.gradient <= PIXEL_PROBING.at_the_end
        few.append(PixelProbe.of(fitted, standardised, slice(0, width), width))
    kept = seen.overlaps([*found.values(), *few], index["test"])
    outcome: dict[str, Any] = {name: kept[place].tolist() for place, name in enumerate(found)}
    place = len(found)
    for metric, drawings in draws.items():
        outcome[metric] = kept[place : place + len(drawings)].tolist()
        place += len(drawings)
    penalty, score = chosen["linear"]
    outcome |= {"penalty": penalty, "valid": score, "converged": converged}
    masks = [found["linear"].masks(maps, store.size).to("cpu", torch.uint8) for _, maps in seen.maps(shown)]
    return outcome, torch.cat(masks)


def _path(
    x: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int, penalties: Sequence[float]
) -> Iterator[Linear]:
    """Fits from the strongest penalty to the weakest, each beginning at the one before."""
    turned, fitted = Turned.of(x), None
    for penalty in penalties:
        fitted = fit_linear(
            turned, labels, SINGLE_LABEL, classes, penalty, start=fitted, tolerance=PIXEL_PROBING.on_the_way
        )
        yield fitted

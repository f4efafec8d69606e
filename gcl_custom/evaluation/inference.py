"""Representations and predictions of many tiles, in batches."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Num, Real
from torch import Tensor, nn

from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training.devices import autocast, pick_device
from gcl_custom.training.launched import sent, shared

INFERENCE_BATCH = 256
PREDICTED_BATCH = {False: INFERENCE_BATCH, True: 32}
"""Whether each pixel gets a class -> tiles at a time."""


def labelled(store: TileStore, split: Literal["train", "valid", "test"]) -> Int[Tensor, " m"]:
    """Numbers of the labelled tiles of a split, ascending."""
    index = store.index(split)
    return index[store.has_label[index]]


def blocks_of(store: TileStore, index: Int[Tensor, " m"]) -> Int[np.ndarray, " m"] | None:
    """The block or scene that each of some tiles was divided with; None where any went alone, as in a given split."""
    if store.blocks is None or bool((store.blocks[index] < 0).any()):
        return None
    found: Int[np.ndarray, " m"] = store.blocks[index].numpy()
    return found


def infer(
    network: nn.Module, store: TileStore, index: Int[Tensor, " n"], hardware: HardwareSettings
) -> Float[Tensor, "n d"]:
    """The network's output for whole tiles, in evaluation mode, as float32 on the recipe's device.

    Processes that a launcher started share the tiles.
    """
    device, parts = pick_device(hardware), torch.split(index, INFERENCE_BATCH)
    found = shared(partial(_inferred, sent(network), store, hardware), parts)
    return torch.cat([part.to(device) for part in found])


def _inferred(
    network: nn.Module, store: TileStore, hardware: HardwareSettings, parts: Sequence[Tensor]
) -> Iterator[Tensor]:
    for part in parts:
        yield infer_batch(network, store, store.read(part), hardware).cpu()


def infer_batch(
    network: nn.Module, store: TileStore, raw: Real[Tensor, "b c h w"], hardware: HardwareSettings
) -> Float[Tensor, "b *_"]:
    """The same for tiles that are given, in the form of the store's but not necessarily from it."""
    device = pick_device(hardware)
    network.eval().to(device)
    with torch.inference_mode(), autocast(hardware, device):
        tiles = store.unit(raw.to(device)).contiguous(memory_format=torch.channels_last)
        representations: Tensor = network(tiles)
    return representations.float()


def predict(
    network: nn.Module, store: TileStore, index: Int[Tensor, " n"], hardware: HardwareSettings
) -> Num[Tensor, "n *_"]:
    """What the network says of each tile, as the kind of label keeps it. Launched processes share the tiles."""
    parts = torch.split(index, PREDICTED_BATCH[store.kind.dense])
    return torch.cat(list(shared(partial(_predicted, sent(network), store, hardware), parts)))


def _predicted(
    network: nn.Module, store: TileStore, hardware: HardwareSettings, parts: Sequence[Tensor]
) -> Iterator[Tensor]:
    for part in parts:
        decided = store.kind.decide(infer_batch(network, store, store.read(part), hardware))
        yield store.kind.kept(decided, store.targets(part), len(store.classes))

"""What pretraining begins with: random weights, or those of others behind the normalisation that they have seen."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from gcl_custom import console
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import backbones
from gcl_custom.pretraining.backbones import Backbone, Normalised
from gcl_custom.pretraining.description import described
from gcl_custom.recipe.pretraining import FileStartSettings, Norms, PretrainSettings, RunStartSettings
from gcl_custom.weights.starts import normalisation, read_start
from gcl_custom.weights.state_dicts import fit_state


def begun(settings: PretrainSettings, store: TileStore) -> Backbone:
    """The backbone before its first step, and its width.

    Raises:
        UserError: the weights of the start are missing, or do not fit the backbone.
    """
    if not settings.continues:
        return backbones.untrained(settings.backbone, store, settings.stem)
    network, width = backbones.build(settings.backbone, store.bands, settings.stem, size=store.size)
    if isinstance(settings.start, FileStartSettings | RunStartSettings):
        path = Path(settings.start.weights).expanduser()
        described(path, settings.backbone, settings.stem, "pretrain.start")
    fit_bands(f"pretrain.start: {settings.start.name}", read_start(settings, network), network, store)
    return seeing(settings, network, store.bands), width


def seeing(settings: PretrainSettings, network: nn.Module, bands: int) -> nn.Module:
    """The network behind the normalisation of its start; without a start the network itself."""
    found = normalisation(settings, bands)
    return network if found is None else Normalised(network, *found)


def fit_bands(source: str, found: Mapping[str, Tensor], network: nn.Module, store: TileStore) -> None:
    """Load a state into a network for a store's tiles. If it knows other bands, its first kernels are adapted.

    Raises:
        UserError: keys are missing, surplus or of another shape, apart from the bands.
    """
    name = _first_convolution(network)
    if name in found and found[name].ndim == 4:
        known, wanted = found[name], network.state_dict()[name]
        if known.shape != wanted.shape or known.shape[1] == store.bands:
            _say(source, known.shape[1], store.bands, store.rgb)
        if known.shape[:1] + known.shape[2:] == wanted.shape[:1] + wanted.shape[2:]:
            found = {**found, name: kernels_for_bands(known, wanted.shape[1])}
    fit_state(source, found, network)


def _first_convolution(network: nn.Module) -> str:
    names = (f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    return next(names, "")


def kernels_for_bands(kernels: Tensor, bands: int) -> Tensor:
    """The first kernels (out, in, h, w) of a network for another number of bands.

    Of more bands, the first are taken for those that the weights know, and the others begin at zero, so that the
    network begins as it was. Of fewer, each gets an equal share of the sum, so that grey is seen as it was.
    """
    known = kernels.shape[1]
    if bands >= known:
        return torch.cat([kernels, kernels.new_zeros(len(kernels), bands - known, *kernels.shape[2:])], dim=1)
    return (kernels.sum(1, keepdim=True) / bands).expand(-1, bands, -1, -1).contiguous()


@cache
def _say(source: str, known: int, bands: int, rgb: bool) -> None:
    """Say once how weights for so many bands see the tiles, unless both are red, green and blue."""
    if bands > known:
        how = f"the first {known} are taken for these, and the further ones begin at zero"
    elif bands < known:
        how = "each sees an equal share of what the weights see in theirs"
    elif not rgb and known == 3:
        how = "they are taken for these in their order"
    else:
        return
    console.warn(f"{source}: the weights know {known} bands, and the tiles have {bands}: {how}")


def fix_norms(backbone: nn.Module, norms: Norms) -> None:
    """Keep the statistics of all batch norms and, where they are frozen, also scale and shift."""
    for part in backbone.modules():
        if norms != "trained" and isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
            if norms == "frozen":
                part.requires_grad_(False)

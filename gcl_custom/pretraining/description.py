"""The description of a backbone that lies in its file: which network it is, and what that takes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import timm
from pydantic import ValidationError
from torch import Tensor, nn

from gcl_custom import __version__
from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.imagery.values.forms import Choice, Form, TileType
from gcl_custom.pretraining import backbones
from gcl_custom.pretraining.backbones import Normalised, within
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.section import Section
from gcl_custom.weights.starts import normalisation
from gcl_custom.weights.state_dicts import fit_state, read_metadata

KEY = "gcl_custom"
"""Under which a description lies in the metadata of a file."""


class Description(Section):
    """What a network is and what it takes, so that both can be made from its file, without the run.

    It lies in the file's metadata, as JSON under ``gcl_custom``.
    """

    version: str
    """Of gcl-custom."""
    network: str
    """Its name in timm, without a tag: a tag would name weights that are not used here."""
    stem: Literal["standard", "small"]
    """small: the max-pooling of timm's network was removed."""
    model_args: dict[str, bool | int]
    """Arguments of timm.create_model besides the name and num_classes=0."""
    width: int
    """Length of a representation."""
    bands: int
    band_names: list[str] | None
    use_bands: list[int] | None
    """The numbers of these bands in a file, from 1, where it has others, too."""
    of_bands: int
    """Number of bands in a file."""
    called: list[str] | None
    """What a file must call its bands; None if their places alone count."""
    size: int
    """Side of a tile in pixels."""
    dtype: TileType
    """Of a tile's stored values."""
    low: list[float]
    """The value of each band that becomes 0."""
    high: list[float]
    """The value of each band that becomes 1. Values beyond are cut off."""
    mean: list[float] | None
    """What the network takes off each band after that; None where it sees unit tiles."""
    deviation: list[float] | None
    """What it then divides by."""
    upscale: bool
    """Whether files smaller than the size are enlarged."""
    nodata: float
    """Largest share of pixels without data that a file may have."""
    fill: float | None = None
    """Value without data, beside what a file says of its own."""

    @classmethod
    def of(cls, recipe: Recipe, store: TileStore, network: nn.Module, width: int) -> "Description":
        """The description of a run's backbone.

        Args:
            network: as built, with or without the normalisation in front of it.
        """
        form = store.form
        settings, seen = recipe.pretrain, normalisation(recipe.pretrain, store.bands)
        return cls(
            version=__version__,
            network=settings.backbone.partition(".")[0],
            stem=settings.stem,
            model_args={"in_chans": store.bands, **backbones.options(within(network))},
            width=width,
            bands=store.bands,
            band_names=list(form.names) if form.names else ["red", "green", "blue"] if store.rgb else None,
            use_bands=list(form.choice.numbers) if form.choice else None,
            of_bands=form.of_file,
            called=list(form.choice.called) if form.choice and form.choice.called else None,
            size=store.size,
            dtype=store.dtype,
            low=store.low.tolist(),
            high=store.high.tolist(),
            mean=seen.mean if seen else None,
            deviation=seen.deviation if seen else None,
            upscale=recipe.data.upscale,
            nodata=recipe.data.nodata,
            fill=form.fill,
        )

    @classmethod
    def read(cls, metadata: Mapping[str, str], file: str) -> "Description":
        """The description in a file's metadata.

        Raises:
            UserError: there is none, or this version does not understand it.
        """
        if KEY not in metadata:
            raise UserError(
                f"{file} does not say which network it holds and what that takes: an earlier version of gcl-custom or "
                f"other software wrote it. Load the run that it is from by its name or folder instead"
            )
        try:
            return cls.model_validate_json(metadata[KEY])
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise UserError(
                f"{file}: its description is not understood ({where}: {fault['msg']}). Another version of gcl-custom "
                f"than {__version__} may have written it: use that one"
            ) from None

    @property
    def form(self) -> Form:
        """Of the tiles."""
        names, called = (tuple(texts) if texts else None for texts in (self.band_names, self.called))
        choice = Choice(tuple(self.use_bands), self.of_bands, called) if self.use_bands else None
        return Form(self.bands, self.dtype, names, choice, self.fill)

    def metadata(self) -> dict[str, str]:
        """What ``read`` reads. It is one entry, since safetensors writes several in a random order."""
        return {KEY: json.dumps(self.model_dump())}

    def built(self, weights: Mapping[str, Tensor], file: str) -> nn.Module:
        """A network of timm's own classes with these weights, on the CPU, in evaluation mode.

        The normalisation that they have seen, if any, is a module before it.

        Raises:
            UserError: timm has no such network, or the weights do not fit it.
        """
        backbones.require_known(self.network, file)
        if surplus := set(self.model_args) - {"in_chans", "img_size", *backbones.ANY_SIZE}:
            raise UserError(f"{file}: its description has model_args that gcl-custom does not write: {surplus}")
        arguments: dict[str, Any] = self.model_args
        network: nn.Module = timm.create_model(self.network, num_classes=0, **arguments)
        if self.stem == "small":
            network.set_submodule("maxpool", nn.Identity())
        fit_state(file, dict(weights), network)
        seen = Normalised(network, self.mean, self.deviation) if self.mean and self.deviation else network
        return seen.eval()


def described(path: Path, network: str, stem: str, where: str) -> Description | None:
    """The description in a file that is to be read as a network; None where there is none.

    Args:
        network: its name in timm.
        where: what names the file and the network, for messages.

    Raises:
        UserError: the file says that it holds another network. Its tensors may well fit, as those of a small stem fit a
            standard one.
    """
    metadata = read_metadata(path) if path.suffix == ".safetensors" and path.is_file() else {}
    if KEY not in metadata:
        return None
    found = Description.read(metadata, str(path))
    if (found.network, found.stem) != (network.partition(".")[0], stem):
        raise UserError(
            f"{where}: {path} says that it holds {found.network} with a {found.stem} stem, not {network} with a "
            f"{stem} one, which would give other representations"
        )
    return found

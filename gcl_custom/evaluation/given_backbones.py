"""The backbones that the command line names: from a run, from timm, from a file, or untrained.

    run:RUN[/ARM]              a pretrained backbone of another run, by default its arm gcl, with all its seeds; a
                               cell of a study is the run STUDY/cells/CELL
    timm:NAME                  timm's own weights, from the local cache of the Hugging Face hub or the network
    FILE@NAME                  weights for timm's network NAME: safetensors, or a state dict or checkpoint of a trainer
                               as torch writes them (.pth, .pt, .ckpt, .bin, .tar), read as tensors only
    untrained:NAME             timm's network NAME as initialised, with the seeds of the recipe: the floor
    generator:RUN[/PART]       what a run's own generator knows: PART hidden, MaskGIT's states averaged over the tile,
                               or tokens, the share of each code; hidden by default

Networks see unit tiles, from 0 to 1. timm's weights were trained on standardised bands, so ``Normalised`` standardises
the tiles for them. Weights that know other bands than the tiles have are adapted as those of ``pretrain.start``, which
is said. A file does not say what its weights were trained on. They get unit tiles, or, with ``:normalised``
after the network's name, tiles standardised by the mean and deviation that timm states for that network. A file of ours
says it, and is standardised accordingly; it is not read as another network than it says. ``:small``
after any network's name removes the max-pooling of a ResNet's stem, as ``pretrain.stem`` does. ``:at=224`` enlarges
tiles to 224 px first, for weights that have seen larger ones. A checkpoint may hold several networks that fit, such as
a student and a teacher: ``:part=teacher`` chooses the one whose tensors lie under that name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.evaluation.figures import FLOORS
from gcl_custom.files import file_digest
from gcl_custom.generator.loading import PARTS, load_as_backbone, stages_of
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import backbones, start, trained_backbone
from gcl_custom.pretraining.backbones import Enlarged, Normalised, Rescaled
from gcl_custom.pretraining.description import Description, described
from gcl_custom.randomness import derive
from gcl_custom.recipe.evaluation import Arm
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run, kept_run
from gcl_custom.runs.stage import Stage
from gcl_custom.weights.starts import network_part, networks_in, normalisation, numbers_for_bands
from gcl_custom.weights.state_dicts import read_tensors

FILES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")
"""How the names of files of weights end; of a pickle, whatever it is called, tensors alone are read."""
LARGEST = 4096
"""The most pixels along the side of an enlarged tile."""
GRAMMAR = (
    f"NAME=run:RUN or run:RUN/ARM, NAME=timm:NETWORK, NAME=untrained:NETWORK, NAME=generator:RUN or "
    f"generator:RUN/tokens, or NAME=FILE@NETWORK, where FILE ends in {', '.join(FILES)}. NETWORK is one of timm's. "
    f"Behind it may stand :small for a small stem and :at=SIDE to enlarge tiles to that side, and, of a file, "
    f":normalised for weights that have seen normalised bands and :part=NAME for one of several networks in it"
)


@dataclass(frozen=True)
class GivenBackbone:
    """A backbone to evaluate."""

    name: str
    spec: str
    seeds: Sequence[int]
    """The seeds of its run, or those of the recipe."""
    fixed: bool
    """The weights are the same for every seed."""
    identity: Mapping[str, Any]
    """What its output depends on besides tiles and stages."""
    input: str
    """What the network sees of a tile, in words."""
    stages: Callable[[int], list[Stage]]
    """Seed -> the stages that its weights come from."""
    build: Callable[[int], tuple[nn.Module, int]]
    """Seed -> the network with its weights, and its width. Raises UserError."""


def given_backbones(run: Run, store: TileStore, given: Sequence[str]) -> list[GivenBackbone]:
    """The backbones that ``--backbone`` gives, in order.

    Raises:
        UserError: one cannot be understood, does not exist, or does not fit the tiles.
    """
    found: list[GivenBackbone] = []
    for text in given:
        name, separator, spec = text.partition("=")
        if not separator or not spec or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UserError(f"--backbone {text!r}: write it as {GRAMMAR}")
        if name in FLOORS:
            raise UserError(f"--backbone {text!r}: {name} is a floor that stands in every table; give it another name")
        if any(other.name == name for other in found):
            raise UserError(f"--backbone {text!r}: there is a backbone {name} already; give each its own name")
        found.append(_given(run, store, name, spec))
    return found


def _given(run: Run, store: TileStore, name: str, spec: str) -> GivenBackbone:
    kind, _, rest = spec.partition(":")
    if kind == "run" and rest:
        return _of_run(run, store, name, spec, rest)
    if kind == "generator" and rest:
        return _of_generator(run, store, name, spec, rest)
    if kind == "timm" and rest:
        return _of_timm(run.recipe, store, name, spec, rest)
    if kind == "untrained" and rest:
        return _untrained(run.recipe, store, name, spec, rest)
    file, _, network = spec.rpartition("@")
    if file.endswith(FILES) and network:
        return _of_file(run.recipe, store, name, spec, Path(file), network)
    raise UserError(f"--backbone {name}={spec}: write it as {GRAMMAR}")


def _other_run(run: Run, where: str, text: str) -> tuple[Run, str]:
    """The run that a text names, and what stands behind its name."""
    runs, (name, behind) = run.path.parent, (text, "")
    if not (runs / text / "recipe.yaml").is_file() and "/" in text:
        name, _, behind = text.rpartition("/")
    if not (runs / name / "recipe.yaml").is_file():
        known = sorted(path.parent.name for path in runs.glob("*/recipe.yaml"))
        raise UserError(f"{where}: there is no run {name!r} in {runs}. There are: {known}")
    return kept_run(runs / name), behind


def _tiles_of(run: Run, store: TileStore, other: Run, where: str) -> tuple[TileStore, str]:
    """The tiles of another run, which have the bands of these, and what its networks see of these, in words."""
    tiles = TileStore(plan.tiles(other).path)
    if tiles.bands != store.bands:
        raise UserError(
            f"{where}: it was trained on tiles of {counted(tiles.bands, 'band')}, and {run.recipe.data.root} "
            f"has tiles of "
            f"{store.bands}. Evaluate it on imagery with the same bands"
        )
    if _scaled_alike(store, tiles):
        return tiles, "unit tiles"
    if store.dtype != tiles.dtype:
        return tiles, f"unit tiles, made of {store.dtype} where run {other.name} has {tiles.dtype}"
    return tiles, f"tiles scaled as those of run {other.name}"


def _scaled_alike(store: TileStore, other: TileStore) -> bool:
    return torch.equal(store.low, other.low) and torch.equal(store.high, other.high)


def _rescaled(network: nn.Module, store: TileStore, other: TileStore) -> nn.Module:
    """The network of a run with other tiles, which sees the same stored value as the same number on these.

    Only values of one type are compared: of 8 and of 16 bits, nothing says which belong together.
    """
    if store.dtype != other.dtype or _scaled_alike(store, other):
        return network
    return Rescaled(network, (store.low, store.high), (other.low, other.high))


def _of_run(run: Run, store: TileStore, name: str, spec: str, text: str) -> GivenBackbone:
    where = f"--backbone {name}={spec}"
    other, arm = _other_run(run, where, text)
    pretrained = {(arm, seed): plan.pretrain(other, arm, seed) for arm, seed in arms.pretrainings(other.recipe)}
    done = [key for key, stage in pretrained.items() if stage.done]
    arm = arm or "gcl"
    seeds = [seed for found, seed in done if found == arm]
    if not seeds:
        there = ", ".join(sorted({found for found, _ in done})) or "none"
        raise UserError(
            f"{where}: run {other.name} has no finished pretraining of arm {arm} with its recipe; "
            f"finished arms: {there}. Run: gcl-custom compare-supervised {other.options}"
        )
    settings = other.recipe.pretrain
    tiles, plainly = _tiles_of(run, store, other, where)

    def build(seed: int) -> tuple[nn.Module, int]:
        network, width = trained_backbone.network_of(other, pretrained[cast(Arm, arm), seed], store.bands)
        return _fitting(_rescaled(network, store, tiles), store, where), width

    identity = {"network": settings.backbone, "stem": settings.stem}
    found = normalisation(settings, store.bands)
    sees = _in_words(*found, plainly) if found else plainly
    return GivenBackbone(
        name, spec, seeds, False, identity, sees, lambda seed: [pretrained[cast(Arm, arm), seed]], build
    )


def _of_generator(run: Run, store: TileStore, name: str, spec: str, text: str) -> GivenBackbone:
    where = f"--backbone {name}={spec}"
    other, part = _other_run(run, where, text)
    part = part or "hidden"
    if part not in PARTS:
        raise UserError(f"{where}: {part!r} is no part of a generator. There are: {', '.join(PARTS)}")
    tiles, sees = _tiles_of(run, store, other, where)
    if tiles.size != store.size:
        raise UserError(f"{where}: it was trained on tiles of {tiles.size} px, and these have {store.size}")

    def build(_: int) -> tuple[nn.Module, int]:
        network, width = load_as_backbone(other, tiles, part, where)
        return _rescaled(network, store, tiles), width

    stages = stages_of(other, part, where)
    return GivenBackbone(name, spec, run.recipe.compare.seeds, True, {"generator": part}, sees, lambda _: stages, build)


def _of_timm(recipe: Recipe, store: TileStore, name: str, spec: str, text: str) -> GivenBackbone:
    where = f"--backbone {name}={spec}"
    network, stem, _, at, _ = _network(text, where, store, options=("small", "at="))
    if not timm.is_model_pretrained(network):
        raise UserError(f"{where}: timm has the network {network!r}, but no weights for it. See timm.list_pretrained()")
    about = get_pretrained_cfg(network)
    assert about is not None, "timm has weights for it"
    mean, deviation = _normalisation(network, store, where)

    def build(_: int) -> tuple[nn.Module, int]:
        try:
            found = timm.create_model(network, pretrained=True, num_classes=0).state_dict()
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{where}: timm's weights are neither in the local cache nor can be fetched ({reason}). Connect this "
                f"machine to the network once, or copy the file here and give it as FILE.safetensors@{network}"
            ) from None
        net, width = backbones.build(network, store.bands, stem, where)
        start.fit_bands(where, found, net, store)
        return _fitting(_at(Normalised(net, mean, deviation), at), store, where), width

    sees, seen = _in_words(mean, deviation, _tiles_in_words(at)), max(about.input_size[1:])
    if at is None and seen > store.size:
        sees += f"; its weights have seen {seen} px, the tiles have {store.size} (:at={seen} enlarges them)"
    identity = {
        "network": network,
        "stem": stem,
        "weights": about.hf_hub_id or about.url,
        "mean": mean,
        "deviation": deviation,
        **_enlarged(at),
    }
    return GivenBackbone(name, spec, recipe.compare.seeds, True, identity, sees, lambda _: [], build)


def _untrained(recipe: Recipe, store: TileStore, name: str, spec: str, text: str) -> GivenBackbone:
    where = f"--backbone {name}={spec}"
    network, stem, _, at, _ = _network(text, where, store, options=("small", "at="))

    def build(seed: int) -> tuple[nn.Module, int]:
        torch.manual_seed(derive(seed, "pretrain", "initial weights"))
        net, width = backbones.untrained(network, store, stem, where, at)
        return _fitting(_at(net, at), store, where), width

    identity = {"network": network, "stem": stem, **_enlarged(at)}
    return GivenBackbone(name, spec, recipe.compare.seeds, False, identity, _tiles_in_words(at), lambda _: [], build)


def _of_file(recipe: Recipe, store: TileStore, name: str, spec: str, path: Path, text: str) -> GivenBackbone:
    where = f"--backbone {name}={spec}"
    options = ("small", "normalised", "at=", "part=")
    network, stem, normalised, at, part = _network(text, where, store, options)
    if not path.is_file():
        raise UserError(f"{where}: there is no file {path} (looked for from {Path.cwd()})")
    content = file_digest(path)
    identity: dict[str, Any] = {"network": network, "stem": stem, "content": content, **_enlarged(at)}
    if part is not None:
        identity["part"] = part
    sees = _tiles_in_words(at)
    about = described(path, network, stem, where)
    normalised = normalised or bool(about and about.mean)
    if normalised:
        mean, deviation = _normalisation(network, store, where, about)
        identity |= {"mean": mean, "deviation": deviation}
        sees = _in_words(mean, deviation, sees)

    def build(_: int) -> tuple[nn.Module, int]:
        net, width = backbones.build(network, store.bands, stem, where)
        found = read_tensors(path, where)
        chosen = network_part(found, net, network, where, _prefix(found, net, part, where))
        start.fit_bands(where, chosen, net, store)
        return _fitting(_at(Normalised(net, mean, deviation) if normalised else net, at), store, where), width

    return GivenBackbone(name, spec, recipe.compare.seeds, True, identity, sees, lambda _: [], build)


def _prefix(found: Mapping[str, Tensor], network: nn.Module, part: str | None, where: str) -> str:
    """What stands before the names of the network's tensors in a file.

    Raises:
        UserError: several networks fit, or none lies under the part that was asked for.
    """
    chosen = networks_in(found, network, part)
    if len(chosen) == 1:
        return chosen[0]
    fit = chosen or networks_in(found, network)
    ways = ", ".join(f":part={prefix.removesuffix('.')}" for prefix in fit if prefix)
    if chosen:
        under = ", ".join(prefix or "no prefix" for prefix in chosen)
        raise UserError(f"{where}: several networks fit, under {under}. Choose one behind the network's name: {ways}")
    there = f"There are: {ways}" if ways else "Its tensors have no prefix, so leave :part out"
    raise UserError(f"{where}: no tensors of the network lie under {part!r}. {there}")


class _Network(NamedTuple):
    """A network's name with its options."""

    name: str
    stem: str
    normalised: bool
    """Whether it sees standardised tiles."""
    at: int | None
    """The side that tiles are enlarged to."""
    part: str | None
    """The part of a file that holds it."""


def _network(text: str, where: str, store: TileStore, options: Sequence[str]) -> _Network:
    name, *given = text.split(":")
    chosen: dict[str, str] = {}
    for option in given:
        key, equals, value = option.partition("=")
        if f"{key}{equals}" not in options or (equals and not value):
            raise UserError(f"{where}: behind the network may stand :{' or :'.join(options)}, not :{option}")
        chosen[key] = value
    backbones.require_known(name, where)
    at = None
    if "at" in chosen:
        at = int(chosen["at"]) if chosen["at"].isdecimal() and len(chosen["at"]) < 6 else 0
        if not store.size <= at <= LARGEST:
            raise UserError(
                f"{where}: :at={chosen['at']} should be a side in pixels from {store.size}, which tiles have, to "
                f"{LARGEST}"
            )
    stem = "small" if "small" in chosen else "standard"
    return _Network(name, stem, "normalised" in chosen, at, chosen.get("part"))


def _at(network: nn.Module, at: int | None) -> nn.Module:
    return network if at is None else Enlarged(network, at)


def _enlarged(at: int | None) -> dict[str, Any]:
    """What is part of a backbone's identity where tiles are enlarged."""
    return {} if at is None else {"enlarged to": at}


def _normalisation(
    network: str, store: TileStore, where: str, own: Description | None = None
) -> tuple[list[float], list[float]]:
    """Mean and deviation of each band in [0, 1]: what the weights' own file says, or timm of its weights.

    If the tiles have other bands, ``start.fit_bands`` says how the weights see them, and these follow.
    """
    if own and own.mean and own.deviation:
        return numbers_for_bands(own.mean, store.bands), numbers_for_bands(own.deviation, store.bands)
    about = get_pretrained_cfg(network, allow_unregistered=False)
    if about is None:
        raise UserError(f"{where}: timm states no mean and deviation for {network}. Leave :normalised out")
    return numbers_for_bands(list(about.mean), store.bands), numbers_for_bands(list(about.std), store.bands)


def _tiles_in_words(at: int | None) -> str:
    return "unit tiles" if at is None else f"unit tiles enlarged to {at} px"


def _in_words(mean: Sequence[float], deviation: Sequence[float], tiles: str) -> str:
    def three(values: Sequence[float]) -> str:
        return " ".join(f"{value:g}" for value in values)

    return f"{tiles}, less the mean {three(mean)} and over the deviation {three(deviation)}"


def _fitting(network: nn.Module, store: TileStore, where: str) -> nn.Module:
    """The network itself, once it is known to take tiles of this size.

    Raises:
        UserError: it does not take them.
    """
    mode = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, store.bands, store.size, store.size))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or ["it says no more"])[0]
        raise UserError(
            f"{where}: the network does not take tiles of {store.size} px ({reason}). Add :at=SIDE behind "
            f"the network's name with what it was made for, or set data.size to it"
        ) from None
    return network.train(mode)

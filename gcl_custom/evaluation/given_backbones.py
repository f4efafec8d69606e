"""The backbones that the command line names: from a run, from timm, from a file, or untrained.

    run:RUN[/ARM]              a pretrained backbone of another run, by default its arm gcl, with all its seeds; a
                               cell of a study is the run STUDY/cells/CELL
    timm:NAME                  timm's own weights, from the local cache of the Hugging Face hub or the network
    FILE.safetensors@NAME      a state dict for timm's network NAME
    FILE.pth@NAME              the same as torch writes it, read as tensors only
    untrained:NAME             timm's network NAME as initialised, with the seeds of the recipe: the floor

Networks see unit tiles, from 0 to 1. timm's weights were trained on standardised bands, so ``Normalised`` standardises
the tiles for them. A file does not say what its weights were trained on. They get unit tiles, or, with ``:normalised``
after the network's name, tiles standardised by the mean and deviation that timm states for that network. ``:small``
after any network's name removes the max-pooling of a ResNet's stem, as ``pretrain.stem`` does.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import backbones, trained_backbone
from gcl_custom.pretraining.backbones import Normalised
from gcl_custom.randomness import derive
from gcl_custom.recipe.evaluation import Arm
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run, kept_run
from gcl_custom.runs.stage import Stage
from gcl_custom.weights.starts import WRAPPINGS, network_part, normalisation
from gcl_custom.weights.state_dicts import fit_state, read_state

GRAMMAR = (
    "NAME=run:RUN or run:RUN/ARM, NAME=timm:NETWORK, NAME=untrained:NETWORK, NAME=FILE.safetensors@NETWORK or "
    "NAME=FILE.pth@NETWORK. NETWORK is one of timm's, with :small behind it for a small stem, and of a file with "
    ":normalised for weights that have seen normalised bands"
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
        if any(other.name == name for other in found):
            raise UserError(f"--backbone {text!r}: there is a backbone {name} already; give each its own name")
        found.append(_given(run, store, name, spec))
    return found


def _given(run: Run, store: TileStore, name: str, spec: str) -> GivenBackbone:
    kind, _, rest = spec.partition(":")
    if kind == "run" and rest:
        return _of_run(run, store, name, spec, rest)
    if kind == "timm" and rest:
        return _of_timm(run.recipe, store, name, spec, rest)
    if kind == "untrained" and rest:
        return _untrained(run.recipe, store, name, spec, rest)
    file, _, network = spec.rpartition("@")
    if file.endswith((".safetensors", ".pth", ".pt")) and network:
        return _of_file(run.recipe, store, name, spec, Path(file), network)
    raise UserError(f"--backbone {name}={spec}: write it as {GRAMMAR}")


def _of_run(run: Run, store: TileStore, name: str, spec: str, text: str) -> GivenBackbone:
    runs, (other_name, arm) = run.path.parent, (text, "")
    if not (runs / text / "recipe.yaml").is_file() and "/" in text:
        other_name, _, arm = text.rpartition("/")
    if not (runs / other_name / "recipe.yaml").is_file():
        known = sorted(path.parent.name for path in runs.glob("*/recipe.yaml"))
        raise UserError(f"--backbone {name}={spec}: there is no run {other_name!r} in {runs}. There are: {known}")
    other = kept_run(runs / other_name)
    pretrained = {(arm, seed): plan.pretrain(other, arm, seed) for arm, seed in arms.pretrainings(other.recipe)}
    done = [key for key, stage in pretrained.items() if stage.done]
    arm = arm or "gcl"
    seeds = [seed for found, seed in done if found == arm]
    if not seeds:
        there = ", ".join(sorted({found for found, _ in done})) or "none"
        raise UserError(
            f"--backbone {name}={spec}: run {other_name} has no finished pretraining of arm {arm} with its recipe; "
            f"finished arms: {there}. Run: gcl-custom compare-supervised {other.options}"
        )
    settings = other.recipe.pretrain
    bands = TileStore(plan.tiles(other).path).bands
    if bands != store.bands:
        raise UserError(
            f"--backbone {name}={spec}: it was trained on tiles of {bands} bands, and {run.recipe.data.root} has "
            f"tiles of {store.bands}. Evaluate it on imagery with the same bands"
        )

    def build(seed: int) -> tuple[nn.Module, int]:
        network, width = trained_backbone.network_of(other, pretrained[cast(Arm, arm), seed], store.bands)
        return _fitting(network, store, f"--backbone {name}={spec}"), width

    identity = {"network": settings.backbone, "stem": settings.stem}
    found = normalisation(settings, store.bands)
    sees = _in_words(*found) if found else "unit tiles"
    return GivenBackbone(
        name, spec, seeds, False, identity, sees, lambda seed: [pretrained[cast(Arm, arm), seed]], build
    )


def _of_timm(recipe: Recipe, store: TileStore, name: str, spec: str, text: str) -> GivenBackbone:
    where = f"--backbone {name}={spec}"
    network, stem, _ = _network(text, where, options=("small",))
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
        fit_state(where, found, net)
        return _fitting(Normalised(net, mean, deviation), store, where), width

    identity = {
        "network": network,
        "stem": stem,
        "weights": about.hf_hub_id or about.url,
        "mean": mean,
        "deviation": deviation,
    }
    return GivenBackbone(
        name, spec, recipe.compare.seeds, True, identity, _in_words(mean, deviation), lambda _: [], build
    )


def _untrained(recipe: Recipe, store: TileStore, name: str, spec: str, text: str) -> GivenBackbone:
    where = f"--backbone {name}={spec}"
    network, stem, _ = _network(text, where, options=("small",))

    def build(seed: int) -> tuple[nn.Module, int]:
        torch.manual_seed(derive(seed, "pretrain", "initial weights"))
        net, width = backbones.untrained(network, store, stem, where)
        return _fitting(net, store, where), width

    return GivenBackbone(
        name, spec, recipe.compare.seeds, False, {"network": network, "stem": stem}, "unit tiles", lambda _: [], build
    )


def _of_file(recipe: Recipe, store: TileStore, name: str, spec: str, path: Path, text: str) -> GivenBackbone:
    where = f"--backbone {name}={spec}"
    network, stem, normalised = _network(text, where, options=("small", "normalised"))
    if not path.is_file():
        raise UserError(f"{where}: there is no file {path} (looked for from {Path.cwd()})")
    content = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    identity: dict[str, Any] = {"network": network, "stem": stem, "content": content}
    sees = "unit tiles"
    if normalised:
        mean, deviation = _normalisation(network, store, where)
        identity |= {"mean": mean, "deviation": deviation}
        sees = _in_words(mean, deviation)

    def build(_: int) -> tuple[nn.Module, int]:
        net, width = backbones.build(network, store.bands, stem, where)
        fit_state(where, network_part(read_state(path, where, WRAPPINGS), net, network, where), net)
        return _fitting(Normalised(net, mean, deviation) if normalised else net, store, where), width

    return GivenBackbone(name, spec, recipe.compare.seeds, True, identity, sees, lambda _: [], build)


def _network(text: str, where: str, options: Sequence[str]) -> tuple[str, str, bool]:
    """(name, stem, whether it sees standardised tiles) of a network's name with its options."""
    name, *chosen = text.split(":")
    for option in chosen:
        if option not in options:
            raise UserError(f"{where}: behind the network may stand :{' or :'.join(options)}, not :{option}")
    backbones.require_known(name, where)
    return name, "small" if "small" in chosen else "standard", "normalised" in chosen


def _normalisation(network: str, store: TileStore, where: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of red, green and blue in [0, 1], as timm states them for its weights."""
    about = get_pretrained_cfg(network, allow_unregistered=False)
    if about is None:
        raise UserError(f"{where}: timm states no mean and deviation for {network}. Leave :normalised out")
    if not store.rgb:
        raise UserError(
            f"{where}: weights for red, green and blue, but the tiles have {store.bands} bands that are not these. "
            f"Choose weights for the same bands, or name the bands in a card (data.card)"
        )
    return list(about.mean), list(about.std)


def _in_words(mean: Sequence[float], deviation: Sequence[float]) -> str:
    def three(values: Sequence[float]) -> str:
        return " ".join(f"{value:g}" for value in values)

    return f"unit tiles, less the mean {three(mean)} and over the deviation {three(deviation)}"


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
        raise UserError(
            f"{where}: the network does not take tiles of {store.size} px ({str(error).splitlines()[0]}). Set "
            f"data.size to what it was made for, with data.upscale: true if the files are smaller"
        ) from None
    return network.train(mode)

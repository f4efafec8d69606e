"""What turns representations into what a map shows: principal axes and a linear probe, both fitted to a run's tiles.

They are fitted once and kept with the run, so that the maps of all scenes mean the same.

n  representations     d  width     k  axes     c  classes
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gcl_custom.evaluation.inference import labelled
from gcl_custom.export.backbone_of_run import TrainedBackbone
from gcl_custom.files import damaged, file_digest, locked
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.maps.representations import representations_of, stage_of
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.measures.probes import Labelled, Turned, choose_probe
from gcl_custom.runs.stage import Stage
from gcl_custom.weights.state_dicts import read_weights, save_weights

KEPT = "fitted.safetensors"
REMEDY = "gcl-custom map SCENE --out MAPS"
SAMPLE = 10_000
"""Training tiles that the axes are fitted to, at most, spread evenly over all."""
NO_VARIANCE = 1e-10
"""Axes along which the training tiles vary by less, as a share of all variance, are none."""


@dataclass(frozen=True)
class Fitted:
    """Principal axes of the training tiles' representations, and a linear probe where tiles have one class each.

    Attributes:
        mean: of the training tiles.
        axes: unit vectors, that of the largest variance first. The largest entry of each is positive.
        shares: of all variance, along each axis.
        weight, bias: of the probe; None without one. Class scores are ``x @ weight.T + bias``.
    """

    mean: Float[Tensor, " d"]
    axes: Float[Tensor, "d k"]
    shares: Float[Tensor, " k"]
    weight: Float[Tensor, "c d"] | None = None
    bias: Float[Tensor, " c"] | None = None

    def components(self, x: Float[np.ndarray, "n d"], count: int) -> Float[np.ndarray, "n _"]:
        """Coordinates along the first axes. Distances along all axes are those of the representations."""
        found: np.ndarray = ((torch.from_numpy(x.astype(np.float64)) - self.mean) @ self.axes[:, :count]).numpy()
        return found

    def probabilities(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
        """What the probe says of each class. They sum to 1."""
        assert self.weight is not None, "there is a probe"
        assert self.bias is not None, "there is a probe"
        found: np.ndarray = (torch.from_numpy(x.astype(np.float64)) @ self.weight.T + self.bias).softmax(1).numpy()
        return found


def why_no_probe(store: TileStore) -> str | None:
    """Why no map of classes can be made of a run's labels; None if it can."""
    if not store.classes:
        return "the run's tiles have no labels"
    if store.kind is not SINGLE_LABEL:
        return f"its tiles have {'a class a pixel' if store.kind.dense else 'several labels each'}, not one"
    lacking = [split for split in ("train", "valid") if not len(labelled(store, split))]
    if lacking:
        return f"none of its {' and '.join(lacking)} tiles has a label"
    if store.kind.only_class(store.labels[labelled(store, "train")]) is not None:
        return "all labelled training tiles are of one class"
    return None


def fitted(known: TrainedBackbone) -> Fitted:
    """The axes and, if the run's labels allow it, the probe.

    Raises:
        UserError: a file of the run is damaged.
    """
    stage, found = _stage(known), representations_of(known)
    with locked(stage.path.parent, wait=True):
        if not stage.done:
            _fit(stage, known.store, found, known.run.recipe.compare.penalties)
    kept = read_weights(stage.path / KEPT)
    try:
        return Fitted(**kept)
    except TypeError as error:
        raise damaged(stage.path / KEPT, error, REMEDY) from None


def fitted_before(known: TrainedBackbone) -> str | None:
    """Digest of what ``fitted`` gives; None where it is still to be fitted."""
    stage = _stage(known)
    return file_digest(stage.path / KEPT) if stage.done and (stage.path / KEPT).is_file() else None


def _stage(known: TrainedBackbone) -> Stage:
    """The stage, which is made anew where the backbone, the tiles or the penalties have changed."""
    run, name = known.run, f"{known.arm}-{known.seed}"
    settings = {"penalties": list(run.recipe.compare.penalties), "sample": SAMPLE}
    stage = run.stage(f"maps/{name}", settings, [stage_of(run, known.arm, known.seed)], REMEDY)
    return replace(stage, redo=True)


def _fit(stage: Stage, store: TileStore, representations: Float[np.ndarray, "n d"], penalties: list[float]) -> None:
    stage.begin()

    def of(index: Tensor) -> Tensor:
        return torch.from_numpy(representations[index.numpy()]).double()

    kept = _axes(of(store.sample(store.index("train"), SAMPLE)))
    facts = {}
    if why_no_probe(store) is None:
        index = [labelled(store, "train"), labelled(store, "valid")]
        train, valid = (Labelled(of(tiles), store.labels[tiles], store.kind) for tiles in index)
        probe = choose_probe(train, valid, len(store.classes), penalties)
        weight = probe.linear.weight * probe.standardised.scale
        kept |= {"weight": weight, "bias": probe.linear.bias - weight @ probe.standardised.mean}
        facts = {"penalty": probe.penalty, "valid": probe.valid_score, "converged": probe.converged}
    save_weights(stage.path / KEPT, kept)
    stage.finish(**facts)


def _axes(x: Float[Tensor, "n d"]) -> dict[str, Tensor]:
    mean = x.mean(0)
    turned = Turned.of(x - mean)
    shares = (turned.variances / turned.variances.sum().clamp(min=1e-300)).flip(0)
    axes = turned.axes.flip(1)[:, shares > NO_VARIANCE]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return {"mean": mean, "axes": axes * largest.sign(), "shares": shares[shares > NO_VARIANCE]}

"""What a study would cost on GPUs, and how far the same sum is off on this processor. Nothing here runs on a GPU.

    python -m benchmarks scaling

Floating-point operations of each kind of batch are counted on the recipe's real networks, with
``torch.utils.flop_counter``, and multiplied by the numbers of batches that ``check`` expects. Time is operations over
what a device does in a second, which is its matrix units' rate times a utilisation. Assumed:

- an A100's rate in bf16, 312 TFLOP/s by its data sheet, with ``UTILISATION`` of it;
- all processes share every part, and each takes a share of the time, without a loss to communication;
- reading, augmentation, waiting for the disk, packing, probes' fits and the report take nothing;
- the generator is the recipe's own, of this size at all scales. Public weights would save its training;
- operations are those of matrix products, convolutions and attention; they grow with the tiles of a batch.

The same sum with this processor's own rate, that of a matrix product, stands beside measured times of the same
batches. Its error tells what the predictions for GPUs are worth at best.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import Row
from gcl_custom.check import estimates, step_costs
from gcl_custom.check.found_tiles import FoundTiles
from gcl_custom.check.step_costs import Bench, Cost, Costs, TokenCosts
from gcl_custom.imagery.values.forms import Form
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.recipe.file import load_recipe
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.training.devices import autocast

DEVICE, RATE, UTILISATION = "an A100", 312e12, 0.3
"""A device, its matrix units' operations a second in bf16 (data sheet), and the share of them that is assumed."""
COUNTED = 2
"""Tiles of a batch whose operations are counted; contrastive losses need two. With 16 tiles of eurosat-scratch the
counts per tile were 11 % lower for the tokenizer, 15 % for views, 2 % higher for MaskGIT, and the same for the rest."""
UNIT = 100_000
"""Tiles that estimates are made for; those of more tiles are multiples."""
CHECKED = "recipes/eurosat-scratch.yaml"
"""Its batches are measured on this processor."""


@dataclass(frozen=True)
class Study:
    """A study whose cost is predicted."""

    name: str
    tiles: int
    devices: int
    recipe: str
    settings: Sequence[str] = ()
    classes: int = 2
    """Classes of labels, on which baselines are trained; 0 for a backbone alone."""


# Where there are more tiles, a generator gets fewer epochs: it sees about as many tiles, or each of them once.
STUDIES = (
    Study("40 thousand tiles at 128 px on one GPU", 40_000, 1, "recipes/wildfire.yaml"),
    Study(
        "ImageNet at 256 px on eight",
        1_281_167,
        8,
        "recipes/wildfire.yaml",
        (
            *("data.size=256", "data.symmetry=flip", "generator.tokenizer.pixels_per_token=16"),
            *("generator.tokenizer.epochs=10", "generator.maskgit.epochs=100"),
            *("pretrain.crop_size=224", "pretrain.batch=800", "compare.seeds=[0]"),
        ),
        classes=1000,
    ),
    Study(
        "100 million tiles at 128 px on 64",
        100_000_000,
        64,
        "recipes/wildfire.yaml",
        (
            *("generator.tokenizer.epochs=1", "generator.maskgit.epochs=1", "pretrain.epochs=5"),
            *("generator.tokenizer.batch=2048", "generator.maskgit.batch=3072", "pretrain.batch=4096"),
        ),
        classes=0,
    ),
)


class Counting(Bench):
    """Counts operations instead of seconds: a batch of so many operations costs so many seconds."""

    def cost(
        self, step: Callable[[int], object], batch: int, modules: Sequence[nn.Module], learns: bool = True
    ) -> Cost:
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = _Whole()  # type: ignore[assignment]
        # Attention as its formula: kernels of processors are not counted.
        with sdpa_kernel(SDPBackend.MATH), autocast(self.recipe.hardware, self.device), counter:
            step(COUNTED)
        return Cost(counter.get_total_flops() * batch / COUNTED, 0, 0)


class _Whole(nullcontext):
    """In place of torch's watch over modules, whose hooks forbid the gradient that the adversary takes in a step."""

    parents = frozenset({"Global"})


@dataclass(frozen=True)
class Work:
    """A part of a study."""

    name: str
    operations: float


def seconds(work: Iterable[Work], devices: int, rate: float = RATE * UTILISATION) -> float:
    """Time of a study's parts, one after another, each shared by all devices.

    Args:
        rate: operations that a device does in a second.
    """
    return sum(part.operations for part in work) / devices / rate


def operations(recipe: Recipe, costs: Costs, tiles: int, classes: int) -> list[Work]:
    """The parts of a study, by the batches that ``check`` expects.

    Args:
        costs: operations of each kind of batch, as ``Counting`` gives them.
        tiles: for training.
    """
    made_up = min(tiles, UNIT)

    def parts(costs: Costs) -> dict[str, float]:
        split = torch.zeros(made_up, dtype=torch.int64)
        labels = torch.arange(made_up) % classes if classes else torch.full((made_up,), -1)
        names = [str(label) for label in range(classes)]
        found = FoundTiles(Form(3, "uint8"), True, names, labels, SINGLE_LABEL, split)
        stages = estimates.estimate(recipe, found, costs, {})
        return {stage.name: (stage.seconds or 0.0) * tiles / made_up for stage in stages}

    whole = parts(costs)
    works = [Work(name, value) for name, value in whole.items() if value]
    if costs.tokens is None:
        return works
    nothing = replace(costs.tokens, tokenise=replace(costs.tokens.tokenise, seconds=0.0))
    for name in ("maskgit", "tokens"):  # each of them encodes all tiles first
        if name in whole:
            trained = parts(replace(costs, tokens=nothing))[name]
            works = [part for part in works if part.name != name]
            works += [Work("encoding", whole[name] - trained), Work(name, trained)]
    return works


def predicted(study: Study) -> Row:
    """The row of a study."""
    recipe = load_recipe(study.recipe, study.settings)
    costs = step_costs.measure(recipe, 3, True, recipe.generator.has_tokens, bench=Counting)
    works = operations(recipe, costs, study.tiles, study.classes)
    parts = [f"{part.name} {_hours(seconds([part], study.devices))}" for part in works if part.operations]
    settings = f" with {' '.join(study.settings)}" if study.settings else ""
    detail = (
        f"predicted, nothing ran on a GPU: {sum(part.operations for part in works):.2g} operations of {study.recipe}"
        f"{settings}; {DEVICE} at {UTILISATION:.0%} of {RATE / 1e12:.0f} TFLOP/s; {', '.join(parts)}"
    )
    return Row(name=study.name, ratio=seconds(works, study.devices) / 3600, target=None, detail=detail, unit="h")


def _hours(value: float) -> str:
    return f"{value / 3600:.3g} h"


def processor_rate(side: int = 512, rounds: int = 100) -> float:
    """Operations a second of a square matrix product in fp32 on this processor, the best of many."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def batches(costs: Costs) -> dict[str, float]:
    """Seconds, or operations, of each kind of batch that a study consists of."""
    tokens = costs.tokens
    assert isinstance(tokens, TokenCosts)
    kinds = {
        "tokenizer's step": tokens.adversary,
        "MaskGIT's step": tokens.maskgit,
        "views": tokens.views,
        "pretraining step": costs.pretrain,
        "step with labels": costs.supervised,
        "embedding": costs.embed,
    }
    return {name: cost.seconds for name, cost in kinds.items() if cost}


def checked() -> list[Row]:
    """Measured against predicted time of each kind of batch, on this processor in fp32."""
    recipe = load_recipe(CHECKED, ["hardware.precision=fp32", "hardware.accelerator=cpu"])
    counts, times = (
        batches(step_costs.measure(recipe, 3, True, tokens=True, bench=bench)) for bench in (Counting, Bench)
    )
    rate = processor_rate()
    return [
        Row(
            name=f"measured against predicted on this processor: {name}",
            ratio=measured * rate * UTILISATION / counts[name],
            target=None,
            detail=(
                f"{measured:.3g} s measured, {counts[name] / rate / UTILISATION:.3g} s predicted from "
                f"{counts[name] / 1e9:.3g} billion operations; {rate / 1e9:.0f} GFLOP/s of a matrix product, "
                f"{UTILISATION:.0%} assumed, {counts[name] / measured / rate:.0%} seen; {CHECKED}, fp32"
            ),
        )
        for name, measured in times.items()
    ]


def rows() -> list[Row]:
    """Hours of each study, then how far off such sums are here."""
    return [*map(predicted, STUDIES), *checked()]


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']}: {row['ratio']:.3g} {row.get('unit', 'times')}. {row['detail']}")

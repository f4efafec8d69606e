"""Views a second: our in-painting against the plain loop of parallel decoding, with the same weights.

    python -m benchmarks.views [RUN_FOLDER]

The plain loop computes all tokens' logits in fp32 in each of 12 steps and draws by torch.multinomial, as public MaskGIT
samplers do. Ours are the defaults of a recipe, in bf16 where the hardware has it. Both are timed in turn, several
rounds with other tiles in each, and only their ratio counts; encoding and decoding tiles is in neither. With the folder
of a finished run its MaskGIT and tokens are used, and views are compared by their pseudo-log-likelihood under the fp32
model. Otherwise the weights are random, for which a likelihood says nothing.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gcl_custom import recipe
from gcl_custom.devices import pick_device, uses_bf16
from gcl_custom.generator.inpainting import inpaint
from gcl_custom.generator.maskgit import MaskGIT
from gcl_custom.generator.masks import hide, still_hidden
from gcl_custom.randomness import Randomness
from gcl_custom.recipe_file import load_recipe
from gcl_custom.recipe_generator import MaskGIT as MaskGITSettings
from gcl_custom.recipe_generator import Views
from gcl_custom.weights import load_weights

TARGET = 5.0
SETTINGS = Views(mask_probability=0.25, decoding_steps=12)
BATCH = 4096
"""Tokens of a batch: 64 tiles of 8x8 tokens, 16 of 16x16."""


@torch.inference_mode()
def plain_loop(
    model: MaskGIT, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"], settings: Views
) -> Int[Tensor, "b h w"]:
    """Parallel decoding as it is usually written."""
    shown, covered = tokens.flatten(1).clone(), hidden.flatten(1).clone()
    initially = covered.sum(dim=1)
    for step in range(settings.decoding_steps):
        logits = model(shown.view_as(tokens), covered.view_as(hidden)).flatten(1, 2).float()
        p = logits.softmax(dim=2)
        drawn = torch.multinomial(p.flatten(0, 1), 1).view_as(shown)
        confidence = p.gather(2, drawn[..., None])[..., 0].log()
        heat = settings.temperature * (1 - (step + 1) / settings.decoding_steps)
        confidence = confidence - heat * torch.log(-torch.log(torch.rand_like(confidence).clamp(min=1e-7)))
        rank = confidence.masked_fill(~covered, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
        count = covered.sum(dim=1)
        decided = rank < (count - still_hidden(initially, count, step, settings.decoding_steps))[:, None]
        shown = torch.where(decided, drawn, shown)
        covered &= ~decided
    return shown.view_as(tokens)


@torch.inference_mode()
def pseudo_log_likelihood(
    model: MaskGIT, views: Int[Tensor, "b h w"], painted: Bool[Tensor, "b h w"], passes: int = 8
) -> Float[Tensor, " b"]:
    """Mean log-probability, in nats, of a tile's in-painted tokens, each predicted while an eighth of it is hidden.

    NaN for a tile with none.
    """
    part = torch.rand(views.shape, generator=torch.Generator().manual_seed(0)).to(views.device).mul(passes).long()
    total = torch.zeros(len(views), device=views.device)
    for number in range(passes):
        covered = part == number
        logp = model(views, covered).log_softmax(dim=3).gather(3, views[..., None])[..., 0]
        total += logp.masked_fill(~(covered & painted), 0).sum(dim=(1, 2))
    return total / painted.sum(dim=(1, 2))


def compare(
    model: MaskGIT, rounds: Sequence[Int[Tensor, "b h w"]], hardware: recipe.Hardware, trained: bool
) -> dict[str, Any]:
    """Interleaved timing of both, and the likelihood of their views where the weights were trained."""
    device = pick_device(hardware)
    model = model.to(device).eval()
    precision = torch.bfloat16 if uses_bf16(hardware, device) else torch.float32
    quick = copy.deepcopy(model).to(precision)
    ways: dict[str, Callable[[Tensor, Tensor, Randomness], Tensor]] = {
        "plain": lambda tokens, hidden, rng: plain_loop(model, tokens, hidden, SETTINGS),
        "ours": lambda tokens, hidden, rng: inpaint(quick, tokens, hidden, rng, SETTINGS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    likelihood: dict[str, list[Tensor]] = {name: [] for name in ways}
    for number, tokens in enumerate([rounds[0][:2], *rounds]):
        rng = Randomness(0, "benchmark", number, torch.arange(len(tokens), device=device))
        hidden = hide(rng, SETTINGS.mask_probability, model.grid, model.grid)
        for name, way in ways.items():
            start = time.perf_counter()
            views = way(tokens.to(device), hidden, rng)
            views.sum().item()  # waits for a GPU
            if number:  # two tiles warm up
                seconds[name].append(time.perf_counter() - start)
                if trained:
                    likelihood[name].append(pseudo_log_likelihood(model, views, hidden).cpu())
    ratio = statistics.median(p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True))
    rates = {name: len(rounds[0]) / statistics.median(taken) for name, taken in seconds.items()}
    detail = f"{rates['ours']:.3g} against {rates['plain']:.3g} views a second"
    if trained:
        logs = {name: torch.cat(values) for name, values in likelihood.items()}
        gain = (logs["ours"] - logs["plain"])[~logs["ours"].isnan()]
        means = {name: values.nanmean().item() for name, values in logs.items()}
        detail += (
            f"; pseudo-log-likelihood {means['ours']:.3f} against {means['plain']:.3f} nats a token "
            f"(standard error of the difference {gain.std().item() / len(gain) ** 0.5:.3f}, {len(gain)} tiles)"
        )
    return {"ratio": ratio, "detail": detail}


def rows(run: Path | None = None, rounds: int = 3) -> list[dict[str, Any]]:
    """One row a grid of tokens: name, ratio, target (None where none is set) and detail."""
    hardware = recipe.Hardware()
    cases: list[tuple[str, MaskGIT, Tensor]] = []
    if run is not None:
        settings = load_recipe(run / "recipe.yaml")
        stored = torch.from_numpy(np.load(run / "tokens" / "tokens.npy", mmap_mode="r")[:, 0].astype(np.int64))
        chosen = settings.tokens.maskgit
        assert isinstance(chosen, MaskGITSettings), "the plain loop is that of the own MaskGIT"
        model = MaskGIT(settings.tokens.tokenizer.codes, stored.shape[-1], chosen)
        load_weights(run / "maskgit" / "maskgit.safetensors", model)
        some = torch.randperm(len(stored), generator=torch.Generator().manual_seed(0))
        cases.append((run.name, model, stored[some]))
    else:
        for grid in (16, 8):
            torch.manual_seed(0)
            model = MaskGIT(1024, grid, MaskGITSettings(width=256, depth=6, heads=4))
            cases.append(
                (
                    "random weights, width 256, depth 6",
                    model,
                    torch.randint(1024, (rounds * BATCH // grid**2, grid, grid)),
                )
            )
    return [
        {
            "name": f"in-painting {model.grid}x{model.grid} tokens ({what})",
            "target": TARGET if model.grid >= 16 else None,
        }
        | compare(model, tokens.split(BATCH // model.grid**2)[:rounds], hardware, trained=run is not None)
        for what, model, tokens in cases
    ]


if __name__ == "__main__":
    for row in rows(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(f"{row['name']}: {row['ratio']:.1f} times (target {row['target'] or 'none'}); {row['detail']}")

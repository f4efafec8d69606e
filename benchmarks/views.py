"""Views a second: our in-painting against the plain loop of parallel decoding, with the same weights.

    python -m benchmarks.views [RUN_FOLDER]

The plain loop computes all tokens' logits in fp32 in each of 12 steps and draws by torch.multinomial, as public MaskGIT
samplers do. Ours are the defaults of a recipe: 12 steps, bf16, hidden tokens only, cache refreshed every 4 steps.
Both are timed in turn, several rounds, and only their ratio counts; encoding and decoding tiles is in neither. Views
are compared by their pseudo-log-likelihood under the fp32 model. With the folder of a finished run its MaskGIT and
tokens are used; otherwise the weights are random, for which the likelihood says nothing.
"""

import statistics
import sys
import time
from collections.abc import Callable
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
from gcl_custom.training import load_weights

TARGET = 5.0
SETTINGS = recipe.Views(mask_probability=0.25, decoding_steps=12, refresh=4)


@torch.inference_mode()
def plain_loop(
    model: MaskGIT, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"], settings: recipe.Views
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
) -> Float[Tensor, ""]:
    """Mean log-probability, in nats, of in-painted tokens, each predicted while an eighth of its tile is hidden."""
    part = torch.rand(views.shape, generator=torch.Generator().manual_seed(0)).to(views.device).mul(passes).long()
    terms = []
    for number in range(passes):
        covered = part == number
        logp = model(views, covered).log_softmax(dim=3).gather(3, views[..., None])[..., 0]
        terms.append(logp[covered & painted])
    return torch.cat(terms).mean()


def compare(model: MaskGIT, tokens: Int[Tensor, "b h w"], rounds: int, hardware: recipe.Hardware) -> dict[str, Any]:
    """Interleaved timing of both, and the likelihood of their views."""
    device = pick_device(hardware)
    model, tokens = model.to(device).eval(), tokens.to(device)
    precision = torch.bfloat16 if uses_bf16(hardware, device) else torch.float32
    quick = MaskGIT(model.codes, model.grid, model.settings).to(device, precision).eval()
    quick.load_state_dict(model.state_dict())
    numbers = torch.arange(len(tokens), device=device)
    ways: dict[str, Callable[[Tensor, Randomness], Tensor]] = {
        "plain": lambda hidden, rng: plain_loop(model, tokens, hidden, SETTINGS),
        "ours": lambda hidden, rng: inpaint(quick, tokens, hidden, rng, SETTINGS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    likelihood: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        rng = Randomness(0, "benchmark", number, numbers)
        hidden = hide(rng, SETTINGS.mask_probability, model.grid, model.grid)
        for name, way in ways.items():
            start = time.perf_counter()
            views = way(hidden, rng)
            views.sum().item()  # waits for a GPU
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
                likelihood[name].append(pseudo_log_likelihood(model, views, hidden).item())
    ratio = statistics.median(p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True))
    rates = {name: len(tokens) / statistics.median(taken) for name, taken in seconds.items()}
    logs = {name: statistics.mean(values) for name, values in likelihood.items()}
    gains = [o - p for p, o in zip(likelihood["plain"], likelihood["ours"], strict=True)]
    error = statistics.stdev(gains) / len(gains) ** 0.5
    return {
        "ratio": ratio,
        "detail": f"{rates['ours']:.3g} against {rates['plain']:.3g} views a second; pseudo-log-likelihood "
        f"{logs['ours']:.3f} against {logs['plain']:.3f} nats a token (standard error of the difference {error:.3f})",
    }


def rows(run: Path | None = None, batch: int = 16, rounds: int = 5) -> list[dict[str, Any]]:
    """One row a grid of tokens: name, ratio, target (None where none is set) and detail."""
    hardware = recipe.Hardware()
    cases: list[tuple[str, MaskGIT, Tensor]] = []
    if run is not None:
        settings = load_recipe(run / "recipe.yaml")
        stored = np.load(run / "tokens" / "tokens.npy", mmap_mode="r")
        model = MaskGIT(settings.generator.tokenizer.codes, stored.shape[-1], settings.generator.maskgit)
        load_weights(run / "maskgit" / "maskgit.safetensors", model)
        cases.append((run.name, model, torch.from_numpy(stored[:batch, 0].astype(np.int64))))
    else:
        for grid in (16, 8):
            torch.manual_seed(0)
            model = MaskGIT(1024, grid, recipe.MaskGIT(width=256, depth=6, heads=4))
            cases.append(("random weights, width 256, depth 6", model, torch.randint(1024, (batch, grid, grid))))
    return [
        {
            "name": f"in-painting {model.grid}x{model.grid} tokens ({what})",
            "target": TARGET if model.grid >= 16 else None,
        }
        | compare(model, tokens, rounds, hardware)
        for what, model, tokens in cases
    ]


if __name__ == "__main__":
    for row in rows(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(f"{row['name']}: {row['ratio']:.1f} times (target {row['target'] or 'none'}); {row['detail']}")

"""Views a second: our in-painting against the plain loop of parallel decoding, with the same weights.

    python -m benchmarks.views [RUN_FOLDER [ROUNDS]]

The plain loop computes all tokens' logits in fp32 in each of 12 steps and draws by torch.multinomial, as public MaskGIT
samplers do. Ours are the defaults of a recipe, in bf16 where the hardware has it. Both are timed in turn, several
rounds with other tiles in each, and only their ratio counts; encoding and decoding tiles is in neither. With the folder
of a finished run its generator and tokens are used, in as many rounds as asked for, and views are compared by their
pseudo-log-likelihood under the fp32 model and by their feature distance to the reconstructed tiles. Otherwise the
weights are random, for which neither says anything.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gcl_custom.generator.augment.inpainting import inpaint
from gcl_custom.generator.augment.masks import hide, still_hidden
from gcl_custom.generator.build_networks import transformer
from gcl_custom.generator.loading import load_tokenizer
from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.generator.token_store import Tokens, tokenised
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.feature_networks import feature_network, frechet_distance
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.generator import MaskGITSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.views import ViewsSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import open_run
from gcl_custom.training.devices import pick_device, uses_bf16

TARGET = 5.0
SETTINGS = ViewsSettings(mask_probability=0.25, decoding_steps=12)
BATCH = 4096
"""Tokens of a batch: 64 tiles of 8x8 tokens, 16 of 16x16."""


@torch.inference_mode()
def plain_loop(
    model: MaskGIT, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"], settings: ViewsSettings
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


Pooled = Callable[[Int[Tensor, "b h w"]], Float[Tensor, "b d"]]
"""Tokens -> the features of the tiles that they decode to."""


def compare(
    model: MaskGIT, rounds: Sequence[Int[Tensor, "b h w"]], hardware: HardwareSettings, pooled: Pooled | None
) -> dict[str, Any]:
    """Interleaved timing of both, and the likelihood and feature distance of their views where features are given."""
    device = pick_device(hardware)
    model = model.to(device).eval()
    precision = torch.bfloat16 if uses_bf16(hardware, device) else torch.float32
    quick = copy.deepcopy(model).to(precision)
    ways: dict[str, Callable[[Tensor, Tensor, Randomness], Tensor]] = {
        "ours": lambda tokens, hidden, rng: inpaint(quick, tokens, hidden, rng, SETTINGS),
        "plain": lambda tokens, hidden, rng: plain_loop(model, tokens, hidden, SETTINGS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    made: dict[str, list[Tensor]] = {name: [] for name in ways}
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
                if pooled is not None:
                    likelihood[name].append(pseudo_log_likelihood(model, views, hidden).cpu())
                    made[name].append(pooled(views))
    ratio = statistics.median(p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True))
    rates = [f"{len(rounds[0]) / statistics.median(taken):.3g}" for taken in seconds.values()]
    detail = f"{' against '.join(rates)} views a second"
    if pooled is not None:
        logs = {name: torch.cat(values) for name, values in likelihood.items()}
        gain = (logs["ours"] - logs["plain"])[~logs["ours"].isnan()]
        means = [f"{log.nanmean().item():.3f}" for log in logs.values()]
        plain = torch.cat([pooled(tokens) for tokens in rounds])
        distances = [f"{frechet_distance(plain, torch.cat(features)):.1f}" for features in made.values()]
        detail += (
            f"; pseudo-log-likelihood {' against '.join(means)} nats a token (difference {gain.mean().item():+.3f}, "
            f"standard error {gain.std().item() / len(gain) ** 0.5:.3f}, {len(gain)} tiles); feature distance "
            f"{' against '.join(distances)}"
        )
    return {"ratio": ratio, "detail": detail}


def rows(folder: Path | None = None, rounds: int = 3) -> list[dict[str, Any]]:
    """One row a grid of tokens: name, ratio, target (None where none is set) and detail."""
    hardware = HardwareSettings()
    cases: list[tuple[str, MaskGIT, Tensor, Pooled | None]] = []
    if folder is not None:
        run = open_run(folder.parent, None, folder.name)
        store = TileStore(plan.tiles(run).path)
        settings, device = run.recipe.tokens, pick_device(hardware)
        tokenizer = load_tokenizer(run, store).to(device).eval()
        network = feature_network(run.recipe.generator.features).to(device)
        grid = store.size // settings.tokenizer.pixels_per_token
        model = transformer(settings.maskgit, tokenizer.codes, grid, plan.maskgit(run).path / plan.MASKGIT)
        assert isinstance(model, MaskGIT), "the plain loop is that of the own MaskGIT"
        numbers = tokenised(store)
        some = numbers[torch.randperm(len(numbers), generator=torch.Generator().manual_seed(0))]
        tokens = Tokens(plan.tokens(run).path, store).read(some)[:, 0]

        @torch.inference_mode()
        def pooled(views: Int[Tensor, "b h w"]) -> Float[Tensor, "b d"]:
            return network.pooled(tokenizer.decode_tokens(views.to(device)).float())

        cases.append((run.path.name, model, tokens, pooled))
    else:
        for grid in (16, 8):
            torch.manual_seed(0)
            model = MaskGIT(1024, grid, MaskGITSettings(width=256, depth=6, heads=4))
            tokens = torch.randint(1024, (rounds * BATCH // grid**2, grid, grid))
            cases.append(("random weights, width 256, depth 6", model, tokens, None))
    return [
        {
            "name": f"in-painting {model.grid}x{model.grid} tokens ({what})",
            "target": TARGET if model.grid >= 16 else None,
        }
        | compare(model, tokens.split(BATCH // model.grid**2)[:rounds], hardware, features)
        for what, model, tokens, features in cases
    ]


if __name__ == "__main__":
    for row in rows(*(kind(given) for kind, given in zip((Path, int), sys.argv[1:], strict=False))):
        print(f"{row['name']}: {row['ratio']:.1f} times (target {row['target'] or 'none'}); {row['detail']}")

"""Views for the time of one: our in-painting against the plain loop of parallel decoding, with the same weights.

    python -m benchmarks.views [RUN_FOLDER [ROUNDS]]

The plain loop computes all tokens' logits in fp32 in each of 12 steps and draws by torch.multinomial, as public MaskGIT
samplers do. Ours are in bf16 where the hardware has it: the defaults of a recipe with a quarter and with half of the
tokens hidden, and a quarter with ``views.refresh: 2`` and in fewer steps. All are done in turn, several rounds with
other tiles in each, and only ratios count, on a CPU those of processor time; encoding and decoding tiles is in none.

With the folder of a finished run its generator and tokens are used, in as many rounds as asked for. Views are then
compared by their pseudo-log-likelihood under the fp32 model, beside that of the tiles' own tokens, and by their feature
distance to the reconstructed tiles. Otherwise the weights are random, for which neither says anything.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.record import Row
from gcl_custom.counted import counted
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
from gcl_custom.training.allocator import keep_freed_memory
from gcl_custom.training.devices import pick_device, uses_bf16

QUARTER, HALF = ViewsSettings(mask_probability=0.25), ViewsSettings(mask_probability=0.5)
CASES: dict[str, tuple[ViewsSettings, float | None]] = {
    "a quarter in 12 steps": (QUARTER, 12.0),
    "a quarter in 12 steps, keys and values renewed at every other": (QUARTER.model_copy(update={"refresh": 2}), None),
    "a quarter in 4 steps": (QUARTER.model_copy(update={"decoding_steps": 4}), 20.0),
    "half in 12 steps": (HALF, 10.0),
}
"""What is in-painted: settings, and how many times as fast as the plain loop of 12 steps they should be."""
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
    what: str, model: MaskGIT, rounds: Sequence[Int[Tensor, "b h w"]], hardware: HardwareSettings, pooled: Pooled | None
) -> list[Row]:
    """Interleaved timing of all cases, and the likelihood and feature distance of views where features are given.

    Args:
        what: the weights, in words.
        rounds: tokens of tiles, others in each round.
    """
    device = pick_device(hardware)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    model = model.to(device).eval()
    precision = torch.bfloat16 if uses_bf16(hardware, device) else torch.float32
    quick = copy.deepcopy(model).to(precision)
    plain = {settings.mask_probability: f"plain {settings.mask_probability:g}" for settings, _ in CASES.values()}
    ways: dict[str, tuple[ViewsSettings, MaskGIT | None]] = {
        name: (settings, quick) for name, (settings, _) in CASES.items()
    }
    ways |= {name: (ViewsSettings(mask_probability=share), None) for share, name in plain.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    likelihood: dict[str, list[Tensor]] = {name: [] for name in ways}
    features: dict[str, list[Tensor]] = {name: [] for name in ways}
    own: dict[str, list[Tensor]] = {name: [] for name in ways}
    for number, tokens in enumerate([rounds[0][:2], *rounds]):
        tokens, rng = tokens.to(device), Randomness(0, "benchmark", number, torch.arange(len(tokens), device=device))
        for name, (settings, network) in ways.items():
            hidden = hide(rng, settings.mask_probability, model.grid, model.grid)
            start = clock()
            if network is None:
                views = plain_loop(model, tokens, hidden, settings)
            else:
                views = inpaint(network, tokens, hidden, rng, settings)
            views.sum().item()  # waits for a GPU
            if number:  # two tiles warm up
                taken[name].append(clock() - start)
                if pooled is not None:
                    likelihood[name].append(pseudo_log_likelihood(model, views, hidden).cpu())
                    features[name].append(pooled(views))
                    if network is None:
                        own[name].append(pseudo_log_likelihood(model, tokens, hidden).cpu())
    rows = []
    for name, (settings, target) in CASES.items():
        other = plain[settings.mask_probability]
        ratio = statistics.median(p / o for p, o in zip(taken[other], taken[name], strict=True))
        seconds = [f"{statistics.median(taken[way]) / len(rounds[0]):.3g}" for way in (name, other)]
        kind = str(precision).removeprefix("torch.")
        detail = f"{' against '.join(seconds)} s a view, {what}, {kind}, {counted(len(rounds), 'round')}"
        if pooled is not None:
            real = torch.cat([pooled(tokens) for tokens in rounds])
            logs = [torch.cat(kept) for kept in (likelihood[name], likelihood[other], own[other])]
            distances = [frechet_distance(real, torch.cat(features[way])) for way in (name, other)]
            detail += _quality(logs, distances)
        rows.append(
            Row(name=f"in-painting {model.grid}x{model.grid} tokens, {name}", ratio=ratio, target=target, detail=detail)
        )
    return rows


def _quality(logs: Sequence[Float[Tensor, " n"]], distances: Sequence[float]) -> str:
    """In words: pseudo-log-likelihoods of our views, the plain loop's and the tiles' own tokens; feature distances."""
    gain = (logs[0] - logs[1])[~logs[0].isnan()]
    ours, others, own = (f"{log.nanmean().item():.3f}" for log in logs)
    return (
        f"; pseudo-log-likelihood {ours} against {others} nats a token, of the tiles' own {own} (difference "
        f"{gain.mean().item():+.3f}, standard error {gain.std().item() / len(gain) ** 0.5:.3f}, {len(gain)} tiles); "
        f"feature distance {distances[0]:.1f} against {distances[1]:.1f}"
    )


def rows(folder: Path | None = None, rounds: int = 3) -> list[Row]:
    """A row for each case and grid of tokens."""
    keep_freed_memory()  # as the stage that makes views does
    hardware = HardwareSettings()
    if folder is not None:
        return compare(*_of_run(folder, hardware, rounds))
    found = []
    for grid in (16, 8):
        torch.manual_seed(0)
        model = MaskGIT(1024, grid, MaskGITSettings(width=256, depth=6, heads=4))
        tokens = torch.randint(1024, (rounds * BATCH // grid**2, grid, grid))
        found += compare("random weights of width 256", model, tokens.split(BATCH // grid**2), hardware, None)
    return found


def _of_run(
    folder: Path, hardware: HardwareSettings, rounds: int
) -> tuple[str, MaskGIT, Sequence[Int[Tensor, "b h w"]], HardwareSettings, Pooled]:
    """What ``compare`` takes, from a finished run."""
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

    return run.path.name, model, tokens.split(BATCH // grid**2)[:rounds], hardware, pooled


if __name__ == "__main__":
    for row in rows(*(kind(given) for kind, given in zip((Path, int), sys.argv[1:], strict=False))):
        print(f"{row['name']}: {row['ratio']:.1f} times (goal {row['target'] or 'none'}); {row['detail']}")

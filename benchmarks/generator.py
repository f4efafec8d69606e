"""The generator: a training step, and the time to a quality, against a VQGAN and a MaskGIT as they are usually written.

    python -m benchmarks.generator [FOLDER [SIZE]]

What stands for them is ``plain_generator``: the VQGAN of taming-transformers with the widths, losses and discriminator
of ours, and BERT on tokens, which are encoded from pixels at each step; all in fp32. Ours are the trainings of the
stages: bf16 where the hardware has it, channels last, tokens that are stored once, whose making counts as time of
MaskGIT. Batches and learning rates are the same.

Steps of both sides are taken in turn, on one thread, and time is the processor's, so that other load matters little.
Where both are trained to a level, each takes a few steps at a time and is then measured, which counts as no time: PSNR
of validation tiles; share of what a frozen network recognises in them, where they have labels; nats by which the
masked-token loss lies below the marginal entropy of the tokens, which are those of our tokenizer for both. A side that
has not reached a level within the most steps is said to have needed longer.

Tiles are synthetic scenes, or those of FOLDER, at SIZE (64) px.
"""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.plain_generator import PlainMaskGIT, PlainTokenizerTraining, PlainVQGAN
from benchmarks.record import Row
from gcl_custom.generator.augment.masks import training_mask
from gcl_custom.generator.build_networks import AnyTokenizer
from gcl_custom.generator.own.vqgan_loss import Reconstruction
from gcl_custom.generator.token_store import Tokens
from gcl_custom.generator.token_training import MaskGITTraining, Quality, TokenizerTraining
from gcl_custom.generator.tokenise import tokenise
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.generator import MaskGITSettings, TokenizerSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.allocator import keep_freed_memory
from gcl_custom.training.batches import Batch, Batches
from gcl_custom.training.devices import uses_bf16
from gcl_custom.training.engine import engine
from gcl_custom.training.steps import Steps
from gcl_custom.weights.state_dicts import save_weights

TARGET = 4.0
"""Goal: a quarter of the time."""
TILES, SIDE = 800, 32
"""Synthetic ones."""
LEVELS = {"psnr": 20.0, "recognised": 0.5, "gap": 0.05}
"""What is reached early in a training, so that the plain side reaches it within minutes."""
UNITS = {"psnr": "dB", "recognised": "of what is recognised in the tiles", "gap": "nats below the marginal entropy"}
ROUNDS, CHUNK, MOST = 5, 30, 150
"""Steps that are timed, steps between two measurements, and the most steps that a training takes."""
JOINS = 0.5
"""Share of the most steps after which the discriminator joins, on both sides."""


def settings(data: Mapping[str, object], pixels_per_token: int, steps: int, tiles: int = 10**6) -> Recipe:
    """The recipe of our side, which names what both sides have in common. Tiles are neither flipped nor turned.

    Args:
        steps: the fewest that each of the trainings has.
        tiles: number of training tiles.
    """
    tokenizer = {
        "batch": 16, "codes": 256, "pixels_per_token": pixels_per_token, "channels": 128, "blocks": 2,
        "learning_rate": 4e-4, "revive_after": 50, "adversary_channels": 32, "adversary_start": JOINS,
    }  # fmt: skip
    maskgit = {"batch": 32, "width": 128, "depth": 4, "heads": 2, "learning_rate": 1e-3, "dropout": 0.0}
    for part in (tokenizer, maskgit):
        part["epochs"] = math.ceil(steps / max(1, tiles // part["batch"]))
    return Recipe.model_validate(
        {
            "name": "benchmark",
            "data": {**data, "symmetry": "none"},
            "generator": {"tokenizer": tokenizer, "maskgit": maskgit},
            "hardware": {"accelerator": "cpu", "precision": "auto"},
        }
    )


@dataclass
class Side:
    """A training that is taken step by step."""

    name: str
    take: Callable[[], None]
    figures: Callable[[], Mapping[str, float]]
    clock: Callable[[], float] = time.process_time
    spent: float = 0.0
    """Seconds of its steps so far, and of what had to be done before the first one."""
    steps: int = 0
    reached: dict[str, float] = field(default_factory=dict)
    """Level -> seconds after which it was reached."""

    def step(self) -> float:
        """Take a step; returns its seconds."""
        began = self.clock()
        self.take()
        seconds = self.clock() - began
        self.spent, self.steps = self.spent + seconds, self.steps + 1
        return seconds


def timed(what: str, sides: Sequence[Side], rounds: int) -> Row:
    """The steps of two sides, ours first, in turn after one to warm up."""
    taken = [[side.step() for side in sides] for _ in range(rounds + 1)][1:]
    ours, theirs = (statistics.median(times) for times in zip(*taken, strict=True))
    detail = f"{theirs:.3f} against {ours:.3f} s of processor time a step"
    return Row(name=f"generator: {what}", ratio=theirs / ours, target=TARGET, detail=detail)


def trained(sides: Sequence[Side], levels: Mapping[str, float], most: int) -> list[Row]:
    """Train two sides, ours first, in turn until each has reached all levels, or has taken the most steps.

    A level that ours has not reached has no row: nothing can be said of it.
    """
    last: dict[str, Mapping[str, float]] = {}
    while going := [side for side in sides if side.steps < most and not levels.keys() <= side.reached.keys()]:
        for side in going:
            for _ in range(min(CHUNK, most - side.steps)):
                side.step()
            last[side.name] = side.figures()
            for name, level in levels.items():
                if last[side.name].get(name, -1.0) >= level:
                    side.reached.setdefault(name, side.spent)
    rows = []
    ours, theirs = sides
    for name in ours.reached:
        seconds = theirs.reached.get(name, theirs.spent)
        short = f" and more (at {last[theirs.name][name]:.3g} after {theirs.steps} steps)"
        more = "" if name in theirs.reached else short
        detail = f"{seconds:.1f} s of processor time{more} against {ours.reached[name]:.1f} s"
        title = f"generator: seconds to {levels[name]:g} {UNITS[name]}"
        rows.append(Row(name=title, ratio=seconds / ours.reached[name], target=TARGET, detail=detail))
    return rows


# ---------------------------------------------------------------- the sides


def _endless(batches: Batches) -> Iterator[Batch]:
    while True:
        yield from batches


@torch.no_grad()
def _measured(quality: Quality, net: AnyTokenizer) -> dict[str, float]:
    """Figures of a tokenizer, for both sides in fp32."""
    net.eval()
    figures = quality.of(net)
    net.train()
    found = quality.recognised()
    return figures | ({"recognised": found.share} if found else {})


def tokenizers(recipe: Recipe, store: TileStore) -> tuple[list[Side], TokenizerTraining, PlainVQGAN]:
    """Both trainings of a tokenizer, ours first."""
    wanted = recipe.tokens.tokenizer
    assert isinstance(wanted, TokenizerSettings)
    batches = [Batches(store.index("train"), wanted.batch, 0, store.read) for _ in range(2)]
    ours = TokenizerTraining(recipe, store, batches[0].steps_per_epoch)
    taking = Steps(ours, engine(recipe.hardware), recipe.hardware, "tokenizer")
    mine, others = (_endless(each) for each in batches)
    torch.manual_seed(0)
    net = PlainVQGAN(store.bands, wanted)
    loss = Reconstruction(wanted.perceptual.weight, ours.network)
    plain = PlainTokenizerTraining(net, store.bands, wanted, loss)

    def theirs() -> None:
        batch = next(others)
        plain.step(store.unit(batch.data), batch.step >= JOINS * ours.steps)

    quality = [Quality(store, store.index("valid"), ours.network) for _ in range(2)]
    sides = [
        Side("ours", lambda: taking.take(next(mine)), lambda: _measured(quality[0], ours.net)),
        Side("plain", theirs, lambda: _measured(quality[1], net)),  # type: ignore[arg-type]
    ]
    return sides, ours, net


def transformers(
    recipe: Recipe, store: TileStore, tokens: Tokens, tokenizer: AnyTokenizer, encoder: nn.Module
) -> list[Side]:
    """Both trainings of a MaskGIT, ours first.

    Args:
        tokenizer: the tokens that are stored are its.
        encoder: encodes the tiles for the other side, at each step.
    """
    wanted = recipe.tokens.maskgit
    assert isinstance(wanted, MaskGITSettings)
    batches = Batches(store.index("train"), wanted.batch, 0, tokens.read)
    pixels = _endless(Batches(store.index("train"), wanted.batch, 0, store.read))
    ours = MaskGITTraining(recipe, store, tokens, tokenizer, batches.steps_per_epoch)
    taking = Steps(ours, engine(recipe.hardware), recipe.hardware, "maskgit")
    mine = _endless(batches)
    torch.manual_seed(0)
    net = PlainMaskGIT(recipe.tokens.tokenizer.codes, ours.net.grid, wanted)
    optimizer = torch.optim.AdamW(net.parameters(), wanted.learning_rate, betas=(0.9, 0.96), weight_decay=0.05)
    encoder = encoder.eval()

    def theirs() -> None:
        batch = next(pixels)
        with torch.no_grad():
            seen: Tensor = encoder.tokenise(store.unit(batch.data))  # type: ignore[operator]
        hidden = training_mask(Randomness(0, "plain", batch.step, batch.tiles), *seen.shape[1:])
        for group in optimizer.param_groups:
            group["lr"] = wanted.learning_rate * min(1.0, ours.schedule(batch.step))
        optimizer.zero_grad()
        net.loss(seen, hidden).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    held_out = ours.hidden_validation()

    @torch.no_grad()
    def gap_of(network: nn.Module) -> dict[str, float]:
        network.eval()
        losses = [float(network.loss(*some, smoothing=0.0)) * int(some[1].sum()) for some in held_out]  # type: ignore[operator]
        network.train()
        return {"gap": ours.marginal_entropy() - sum(losses) / sum(int(hidden.sum()) for _, hidden in held_out)}

    return [
        Side("ours", lambda: taking.take(next(mine)), lambda: gap_of(ours.average)),
        Side("plain", theirs, lambda: gap_of(net)),
    ]


def rows(
    folder: Path | None = None, size: int = 64, most: int = MOST, levels: Mapping[str, float] = LEVELS
) -> list[Row]:
    """Two rows of steps, and one for each level."""
    keep_freed_memory()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        drawn = {"root": f"{work}/scenes", "synthetic": {"tiles": TILES, "pixels": SIDE}, "size": SIDE}
        data, square = (drawn, 4) if folder is None else ({"root": str(folder), "size": size}, 8)
        run = Run(Path(work) / "run", settings(data, square, most))
        pack_tiles.pack_tiles(run)
        store = TileStore(plan.tiles(run).path)
        run.recipe = settings(data, square, most, len(store.index("train")))
        return compared(run, store, most, levels)


def compared(run: Run, store: TileStore, most: int, levels: Mapping[str, float]) -> list[Row]:
    """The rows on the tiles of a run, whose tokenizer and tokens are made meanwhile."""
    what = f"{store.size} px, " + ("bf16" if uses_bf16(run.recipe.hardware, torch.device("cpu")) else "fp32")
    tokens_settings = run.recipe.tokens
    at_once = tokens_settings.tokenizer.model_copy(update={"adversary_start": 0.0, "adversary_warmup": 0.0})
    joined = run.recipe.model_copy(update={"generator": tokens_settings.model_copy(update={"tokenizer": at_once})})
    found = [timed(f"tokenizer's step, {what}, with the discriminator", tokenizers(joined, store)[0], ROUNDS)]

    sides, ours, plain = tokenizers(run.recipe, store)
    of_tokenizer = {name: level for name, level in levels.items() if name != "gap"}
    found += trained(sides, of_tokenizer, most)
    began = time.process_time()
    stage = plan.tokenizer(run)
    stage.begin()
    save_weights(stage.path / plan.TOKENIZER, ours.net)
    stage.finish()
    tokenise(run)
    tokenising = time.process_time() - began
    tokens = Tokens(plan.tokens(run).path, store)
    found.append(timed(f"MaskGIT's step, {what}", transformers(run.recipe, store, tokens, ours.net, plain), ROUNDS))
    # Both know the same tokens here, so our encoder stands for theirs, in fp32, though it costs less.
    sides = transformers(run.recipe, store, tokens, ours.net, ours.net)
    sides[0].spent = tokenising
    return found + trained(sides, {"gap": levels["gap"]}, most)


if __name__ == "__main__":
    for row in rows(*(kind(given) for kind, given in zip((Path, int, int), sys.argv[1:], strict=False))):
        print(f"{row['name']}: {row['ratio']:.1f} times (goal {row['target']}); {row['detail']}")

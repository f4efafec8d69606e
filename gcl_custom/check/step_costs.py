"""What one training step costs on this machine: a few steps of the real trainings, on made-up tiles, by the clock.

A step's time hardly depends on what the tiles show. Where a step of the whole batch would take long, fewer tiles are
measured. Time then goes on along the line through two numbers of tiles, and memory grows with their number.
"""

import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property, partial

import torch
from jaxtyping import Float, Int, Real, Shaped
from torch import Tensor, nn

from gcl_custom.evaluation import floors
from gcl_custom.evaluation.classifier import Classifier
from gcl_custom.evaluation.inference import infer_batch
from gcl_custom.generator import build_networks
from gcl_custom.generator.build_networks import AnyTokenizer
from gcl_custom.generator.own.as_backbone import TokenHistogram
from gcl_custom.generator.token_generator import TokenGenerator
from gcl_custom.generator.token_store import Tokens
from gcl_custom.generator.token_training import MaskGITTraining, TokenizerTraining
from gcl_custom.imagery.symmetry import WAYS
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.imagery.values.forms import Form
from gcl_custom.measures.label_kind import LabelKind, NamedKind
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.pretraining import backbones
from gcl_custom.pretraining.backbones import Enlarged
from gcl_custom.pretraining.contrastive import Contrastive
from gcl_custom.pretraining.make_targets import BLOCK
from gcl_custom.pretraining.pairs import Reader
from gcl_custom.pretraining.targets import TargetStore
from gcl_custom.pretraining.word_targets import patch_words
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.pretraining import TokenTargetsSettings, WordTargetsSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.arms import awaited_of_generator
from gcl_custom.training.batches import Batch
from gcl_custom.training.devices import autocast, pick_device
from gcl_custom.training.engine import engine
from gcl_custom.training.steps import Steps, Trainable
from gcl_custom.training.stopwatch import Stopwatch

FEW = 8
"""Tiles of the first steps, which tell how many can be afforded."""
SECONDS = 1.0
"""A measured step has the whole batch, or as many tiles as take about so long."""
REPEATS = 3
STEPS = 1000
"""Length of a made-up epoch. The last step is measured: by then the adversary, queues and teachers have joined."""
DIFFERENT = 64
"""Made-up tiles; more of them are the same ones again."""


@dataclass(frozen=True)
class Cost:
    """Of one batch of the recipe's size."""

    seconds: float
    memory: int
    """Bytes: what the backward pass keeps, and weights, gradients and the optimizer's state."""
    parameters: int


@dataclass(frozen=True)
class TokenCosts:
    """Of each kind of batch of a token generator; none for what a recipe does not do with it."""

    tokenizer: Cost | None
    adversary: Cost | None
    """A tokenizer's step once the discriminator has joined."""
    maskgit: Cost | None
    tokenise: Cost
    views: Cost | None


@dataclass(frozen=True)
class Costs:
    """Of each kind of batch in a run."""

    tokens: TokenCosts | None
    """None for generators of another kind, and where weights are missing."""
    pretrain: Cost
    supervised: Cost
    embed: Cost
    """Representations of compare.batch tiles."""
    floors: Cost
    """Features that need no network, of as many."""
    targets: tuple[Cost, int] | None = None
    """What is predicted of a block of tiles, and its width; None without targets, and where weights are missing."""


class MadeUpTiles(TileStore):
    """A store of noise in memory, all of it training tiles with one of two labels, or with masks of two classes."""

    def __init__(self, bands: int, size: int, rgb: bool, kind: LabelKind = SINGLE_LABEL) -> None:
        self.form, self.size, self.rgb = Form(bands, "uint8"), size, rgb
        self.bands, self.dtype = bands, self.form.dtype
        self.classes, self.kind = ["one", "other"], kind
        names = [self.classes[number % 2] for number in range(DIFFERENT)]
        of_pixels = torch.ones(DIFFERENT, 2, dtype=torch.int64)
        self.labels = kind.encode(names, self.classes) if isinstance(kind, NamedKind) else of_pixels
        self.has_label, self.split = torch.ones(DIFFERENT, dtype=torch.bool), torch.zeros(DIFFERENT, dtype=torch.int64)
        self.low, self.high = torch.zeros(bands), torch.full((bands,), 255.0)
        self._noise = torch.randint(256, (DIFFERENT, bands, size, size), dtype=torch.uint8)

    def read(self, index: Int[Tensor, " b"]) -> Real[Tensor, "b c h w"]:
        return self._noise[index.cpu() % DIFFERENT]

    def targets(self, index: Int[Tensor, " b"]) -> Shaped[Tensor, "b *_"]:
        return self.read(index)[:, 0] % 2 if self.kind.dense else super().targets(index)


class MadeUpTokens(Tokens):
    """Random tokens of made-up tiles."""

    def __init__(self, codes: int, ways: int, grid: int) -> None:
        self._noise = torch.randint(codes, (DIFFERENT, ways, grid, grid))

    def read(self, tiles: Int[Tensor, " b"]) -> Int[Tensor, "b s h w"]:
        return self._noise[tiles.cpu() % DIFFERENT]


class MadeUpTargets(TargetStore):
    """Noise of the width of the targets."""

    def __init__(self, recipe: Recipe, bands: int) -> None:
        settings = recipe.pretrain
        if isinstance(settings.targets, WordTargetsSettings):
            self._width = settings.targets.words + 4 * bands
        elif isinstance(settings.targets, TokenTargetsSettings):
            self._width = recipe.tokens.tokenizer.codes
        else:
            _, self._width = backbones.build(settings.taught_by.backbone, bands=3)

    @property
    def width(self) -> int:
        return self._width

    def read(self, tiles: Int[Tensor, " b"]) -> Float[Tensor, "b t"]:
        return torch.randn(len(tiles), self.width)


class MadeUpReader(Reader):
    """Made-up tiles as anchors, reconstructions and views, which all kept their content."""

    def __init__(self, store: TileStore, recipe: Recipe) -> None:
        self._store, self._settings = store, recipe.pretrain
        self._per_tile = {"inpainted": recipe.views.per_tile}
        self._views, self._least = {}, None
        self.targets = MadeUpTargets(recipe, store.bands) if recipe.pretrain.predicted else None

    def __call__(self, tiles: Int[Tensor, " b"]) -> dict[str, Tensor]:
        raw, sources = self._store.read(tiles)[:, None], {self._settings.anchor, self._settings.source}
        read: dict[str, Tensor] = {
            source: raw.expand(-1, self._per_tile.get(source, 1), -1, -1, -1) for source in sources
        }
        return read if self.targets is None else {**read, "targets": self.targets.read(tiles)}


@dataclass(frozen=True)
class Bench:
    """Where and on which tiles costs are measured."""

    recipe: Recipe
    bands: int
    rgb: bool
    kind: LabelKind = SINGLE_LABEL

    @property
    def device(self) -> torch.device:
        return pick_device(self.recipe.hardware)

    @cached_property
    def store(self) -> MadeUpTiles:
        return MadeUpTiles(self.bands, self.recipe.data.size, self.rgb, self.kind)

    def tiles(self, batch: int) -> Float[Tensor, "b c h w"]:
        """Made-up unit tiles."""
        return self.store.unit(self.store.read(torch.arange(batch)).to(self.device))

    def training(
        self,
        module: Trainable,
        read: Callable[[Tensor], object],
        batch: int,
        step: int,
        learnt: Sequence[nn.Module],
    ) -> Cost:
        """Of the step of a training that has this number, with its reading and copying done before.

        Args:
            learnt: the parts that count as learnt; others do not change, or follow.
        """
        fabric = engine(self.recipe.hardware)
        steps = Steps(module, fabric, self.recipe.hardware, "check")

        @cache
        def made_up(count: int) -> Batch:
            tiles = torch.arange(count) % DIFFERENT
            return fabric.to_device(Batch(step, tiles, read(tiles)))

        return self.cost(lambda count: steps.take(made_up(count)), batch, learnt)

    def cost(
        self, step: Callable[[int], object], batch: int, modules: Sequence[nn.Module], learns: bool = True
    ) -> Cost:
        """Time a step of the whole batch, or of as many tiles as can be afforded.

        Args:
            step: does a step with so many tiles.
            modules: what the step computes with.
            learns: whether there are gradients and the state of an optimizer. A step that learns sets its precision.
        """
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        few = min(batch, FEW)
        with nullcontext() if learns else autocast(self.recipe.hardware, self.device):
            step(few)
            first = self._timed(step, few)
            measured = min(batch, max(few, int(few * SECONDS / first)))
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                step(measured)
            slow = measured == few and first > SECONDS  # not repeated: ResNet-50 at 224 px takes minutes on a core
            seconds = first if slow else statistics.median(self._timed(step, measured) for _ in range(REPEATS))
        weights = {p.untyped_storage().data_ptr() for module in modules for p in module.parameters()}
        activations = sum(size for place, size in kept.items() if place not in weights)
        parameters = sum(p.numel() for module in modules for p in module.parameters())
        # Weights, gradients and two moments, in fp32.
        memory = round(activations * batch / measured) + 4 * parameters * (4 if learns else 1)
        return Cost(extrapolated(few, first, measured, seconds, batch), memory, parameters)

    def _timed(self, step: Callable[[int], object], tiles: int) -> float:
        return Stopwatch(self.device).seconds(partial(step, tiles))


def extrapolated(few: int, first: float, measured: int, seconds: float, batch: int) -> float:
    """Seconds of a whole batch, on the line through those of few tiles and of the measured ones.

    A step has a part that does not grow with its tiles, the optimizer's. With one number of tiles it is left out.
    """
    if measured == few:
        return seconds * batch / measured
    return seconds + max(0.0, seconds - first) * (batch - measured) / (measured - few)


def measure(
    recipe: Recipe, bands: int, rgb: bool, tokens: bool, kind: LabelKind = SINGLE_LABEL, bench: type[Bench] = Bench
) -> Costs:
    """Measure every kind of batch of a recipe, in about a minute or less.

    Args:
        bands: of the tiles.
        rgb: the bands are red, green and blue.
        kind: of the labels, on which it depends what a training with labels takes.
        tokens: measure the generator, which is one of tokens and whose weights, if it takes any, are there.
        bench: how a batch is measured.

    Raises:
        UserError: weights that do not fit.
    """
    on = bench(recipe, bands, rgb, kind)
    with torch.random.fork_rng(devices=[on.device] if on.device.type == "cuda" else []):
        torch.manual_seed(0)
        generator = _tokens(on) if tokens else None
        pretrain = _pretrain(on)
        supervised, embed = _supervised(on)
        below = _floors(on)
        of_tokens = isinstance(recipe.pretrain.targets, TokenTargetsSettings)
        targets = _targets(on) if recipe.pretrain.predicted and (tokens or not of_tokens) else None
    return Costs(generator, pretrain, supervised, embed, below, targets)


def _tokens(bench: Bench) -> TokenCosts:
    """Of a token generator: trainings where there are epochs of them, and views where tokens are in-painted."""
    recipe, settings = bench.recipe, bench.recipe.tokens.tokenizer
    plain = adversary = None
    if settings.epochs:
        training = TokenizerTraining(recipe, bench.store, STEPS)
        of = partial(bench.training, training, bench.store.read, settings.batch)
        plain = of(step=0, learnt=[training.net])
        adversary = of(step=training.steps - 1, learnt=[training.net, training.adversary])
        net = training.net
    else:
        net = build_networks.tokenizer(settings, bench.bands)
    if "maskgit" in awaited_of_generator(recipe):
        return TokenCosts(plain, adversary, *_maskgit(bench, net))
    tiles = bench.tiles(recipe.views.batch)
    net = net.to(bench.device).eval()

    @torch.inference_mode()
    def tokenise(count: int) -> None:
        net.tokenise(tiles[:count])

    encoding = bench.cost(tokenise, recipe.views.batch, [net], learns=False)
    return TokenCosts(plain, adversary, None, encoding, None)


def _maskgit(bench: Bench, tokenizer: AnyTokenizer) -> tuple[Cost | None, Cost, Cost]:
    recipe, device = bench.recipe, bench.device
    settings, grid = recipe.tokens.maskgit, recipe.data.size // recipe.tokens.tokenizer.pixels_per_token
    cost = None
    if settings.epochs:
        tokens = MadeUpTokens(tokenizer.codes, WAYS[recipe.token_symmetry], grid)
        training = MaskGITTraining(recipe, bench.store, tokens, tokenizer, STEPS)
        net = training.net
        cost = bench.training(training, tokens.read, settings.batch, settings.epochs * STEPS - 1, [net])
    else:
        net = build_networks.transformer(settings, tokenizer.codes, grid)
    generator = TokenGenerator(tokenizer, net, recipe.views, recipe.hardware, device)
    tiles = bench.tiles(recipe.views.batch)
    modules = [generator.tokenizer, generator.maskgit]

    def drawn(count: int) -> Randomness:
        return Randomness(0, "check", 1, torch.arange(count, device=device))

    def tokenise(count: int) -> Tensor:
        return generator.encode(tiles[:count], drawn(count))

    def view(count: int) -> None:
        generator.decode(generator.augment(tokenise(count), drawn(count)))

    encoding, views = (bench.cost(does, recipe.views.batch, modules, learns=False) for does in (tokenise, view))
    return cost, encoding, views


def _pretrain(bench: Bench) -> Cost:
    settings, reader = bench.recipe.pretrain, MadeUpReader(bench.store, bench.recipe)
    batch = settings.tiles_per_step
    training = Contrastive(bench.store, reader, settings, STEPS, batch, seed=0)
    return bench.training(training, reader, batch, STEPS - 1, [training])


def _targets(bench: Bench) -> tuple[Cost, int]:
    settings = bench.recipe.pretrain
    if isinstance(settings.targets, WordTargetsSettings):
        seeing: tuple[nn.Module, int] = patch_words(bench.store, settings.targets.words, seed=0)
    elif isinstance(settings.targets, TokenTargetsSettings):
        tokenizer = build_networks.tokenizer(bench.recipe.tokens.tokenizer, bench.bands)
        seeing = TokenHistogram(tokenizer), tokenizer.codes
    else:
        assert settings.feature_targets
        size, taught_by = settings.feature_targets.size, settings.taught_by
        bare, of_network = backbones.build(taught_by.backbone, bench.bands, taught_by.stem)
        seeing = Enlarged(bare, size) if size else bare, of_network
    network, width = seeing[0].to(bench.device).eval(), seeing[1]
    tiles = bench.tiles(BLOCK)

    @torch.inference_mode()
    def see(count: int) -> None:
        network(tiles[:count].contiguous(memory_format=torch.channels_last))

    return bench.cost(see, BLOCK, [network], learns=False), width


def _supervised(bench: Bench) -> tuple[Cost, Cost]:
    """Of the supervised baseline, and of representations."""
    recipe, store = bench.recipe, bench.store
    settings, batch, rate = recipe.pretrain, recipe.compare.batch, recipe.compare.learning_rates[0]
    backbone, width = backbones.untrained(settings.backbone, store, settings.stem)
    training = Classifier(backbone, width, store, settings, recipe.hardware, rate, STEPS, seed=0)
    supervised = bench.training(training, store.read, batch, STEPS - 1, [training.trained])
    raw = store.read(torch.arange(batch)).to(bench.device)
    embed = bench.cost(
        lambda count: infer_batch(backbone, store, raw[:count], recipe.hardware), batch, [backbone], learns=False
    )
    return supervised, embed


def _floors(bench: Bench) -> Cost:
    """Of the dearer floor: the words of patches, or the surroundings of pixels."""
    store, batch = bench.store, bench.recipe.compare.batch
    network, _ = floors.features(store, store.kind.floors[-1], seed=0)
    network.to(bench.device)
    tiles = bench.tiles(batch)
    return bench.cost(lambda count: network(tiles[:count]), batch, [network], learns=False)

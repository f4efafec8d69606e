"""What one training step costs on this machine: a few steps of the real networks, on made-up tiles, by the clock.

A step's time hardly depends on what the tiles show. Where a step of the whole batch would take long, fewer tiles are
measured and the result is scaled: time and memory then grow with the number of tiles.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from gcl_custom.generator import build_networks
from gcl_custom.generator.augment.masks import training_mask
from gcl_custom.generator.build_networks import AnyTokenizer
from gcl_custom.generator.own.vqgan_loss import Adversary, Reconstruction, adversarial_gradient
from gcl_custom.generator.token_generator import TokenGenerator
from gcl_custom.measures.feature_networks import feature_network
from gcl_custom.methods.by_name import METHODS
from gcl_custom.pretraining import backbones
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.features import WithoutNetworkSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.training import optimizers
from gcl_custom.training.devices import autocast, pick_device
from gcl_custom.training.stopwatch import Stopwatch
from gcl_custom.views.handcrafted import handcrafted, paired, small_crop

FEW = 8
"""Tiles of the first steps, which tell how many can be afforded."""
SECONDS = 1.0
"""A measured step has the whole batch, or as many tiles as take about so long."""
REPEATS = 3


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


@dataclass(frozen=True)
class Bench:
    """Where and on which tiles costs are measured."""

    recipe: Recipe
    bands: int
    rgb: bool

    @property
    def device(self) -> torch.device:
        return pick_device(self.recipe.hardware)

    def tiles(self, batch: int) -> Tensor:
        """Made-up unit tiles (b c h w)."""
        size = self.recipe.data.size
        return torch.rand(batch, self.bands, size, size, device=self.device)

    def cost(
        self, step: Callable[[int], object], batch: int, modules: Sequence[nn.Module], learns: bool = True
    ) -> Cost:
        """Time a step of the whole batch, or of as many tiles as can be afforded.

        Args:
            step: does a step with so many tiles.
            modules: what the step computes with.
            learns: whether there are gradients and the state of an optimizer.
        """
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        few = min(batch, FEW)
        with autocast(self.recipe.hardware, self.device):
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
        return Cost(seconds * batch / measured, memory, parameters)

    def _timed(self, step: Callable[[int], object], tiles: int) -> float:
        return Stopwatch(self.device).seconds(partial(step, tiles))


def measure(recipe: Recipe, bands: int, rgb: bool, tokens: bool) -> Costs:
    """Measure every kind of batch of a recipe, in about a minute or less.

    Args:
        bands: of the tiles.
        rgb: the bands are red, green and blue.
        tokens: measure the generator, which is one of tokens and whose weights, if it takes any, are there.

    Raises:
        UserError: weights that do not fit.
    """
    bench = Bench(recipe, bands, rgb)
    with torch.random.fork_rng(devices=[bench.device] if bench.device.type == "cuda" else []):
        torch.manual_seed(0)
        generator = _tokens(bench) if tokens else None
        pretrain, supervised, embed = _backbone(bench)
    return Costs(generator, pretrain, supervised, embed)


def _tokens(bench: Bench) -> TokenCosts:
    """Of a token generator: trainings where there are epochs of them, and views where tokens are in-painted."""
    net = build_networks.tokenizer(bench.recipe.tokens.tokenizer, bench.bands)
    plain, adversary = _tokenizer(bench, net) if bench.recipe.tokens.tokenizer.epochs else (None, None)
    if not bench.recipe.inpaints:
        tiles = bench.tiles(bench.recipe.views.batch)
        net = net.to(bench.device).eval()

        @torch.inference_mode()
        def tokenise(count: int) -> None:
            net.tokenise(tiles[:count])

        return TokenCosts(
            plain, adversary, None, bench.cost(tokenise, bench.recipe.views.batch, [net], learns=False), None
        )
    return TokenCosts(plain, adversary, *_maskgit(bench, net))


def _tokenizer(bench: Bench, net: AnyTokenizer) -> tuple[Cost, Cost]:
    settings = bench.recipe.tokens.tokenizer
    net = net.to(bench.device)
    adversary = Adversary(bench.bands, settings.lecam, settings.adversary_channels).to(bench.device)
    compared = None if isinstance(settings.perceptual, WithoutNetworkSettings) else feature_network(settings.perceptual)
    loss_of = Reconstruction(settings.perceptual.weight, compared).to(bench.device)
    own = torch.optim.AdamW(net.parameters())
    others = torch.optim.AdamW(adversary.parameters())
    tiles = bench.tiles(settings.batch)

    def step(count: int, with_adversary: bool) -> None:
        real = tiles[:count]
        fake, quantised = net(real)
        pixels = fake.detach().requires_grad_()
        loss, _ = loss_of(pixels, real)
        (gradient,) = torch.autograd.grad(loss, pixels)
        backward = quantised.loss
        if with_adversary:
            judged = adversary(real, pixels)
            (adversarial,) = torch.autograd.grad(judged.generator, pixels, retain_graph=True)
            weight = settings.adversary_weight * judged.trust
            gradient, _ = adversarial_gradient(fake, gradient, adversarial, net.last_layer, weight)
            backward = backward + judged.discriminator
        own.zero_grad()
        others.zero_grad()
        torch.autograd.backward(backward + (fake * gradient).sum())
        own.step()
        if with_adversary:
            others.step()

    plain = bench.cost(partial(step, with_adversary=False), settings.batch, [net])
    return plain, bench.cost(partial(step, with_adversary=True), settings.batch, [net, adversary])


def _maskgit(bench: Bench, vqgan: AnyTokenizer) -> tuple[Cost | None, Cost, Cost]:
    recipe, device = bench.recipe, bench.device
    settings, tokenizer = recipe.tokens.maskgit, recipe.tokens.tokenizer
    grid = recipe.data.size // tokenizer.pixels_per_token
    net = build_networks.transformer(settings, vqgan.codes, grid).to(device)
    optimizer = torch.optim.AdamW(net.parameters())
    tokens = torch.randint(vqgan.codes, (settings.batch, grid, grid), device=device)

    def step(count: int) -> None:
        hidden = training_mask(Randomness(0, "check", 0, torch.arange(count, device=device)), grid, grid)
        optimizer.zero_grad()
        torch.autograd.backward(net.loss(tokens[:count], hidden))
        optimizer.step()

    training = bench.cost(step, settings.batch, [net]) if settings.epochs else None
    generator = TokenGenerator(vqgan, net, recipe.views, recipe.hardware, device)
    tiles = bench.tiles(recipe.views.batch)
    modules = [generator.tokenizer, generator.maskgit]

    def drawn(count: int) -> Randomness:
        return Randomness(0, "check", 1, torch.arange(count, device=device))

    def tokenise(count: int) -> Tensor:
        return generator.encode(tiles[:count], drawn(count))

    def view(count: int) -> None:
        generator.decode(generator.augment(tokenise(count), drawn(count)))

    encoding, views = (bench.cost(does, recipe.views.batch, modules, learns=False) for does in (tokenise, view))
    return training, encoding, views


def _backbone(bench: Bench) -> tuple[Cost, Cost, Cost]:
    settings, device = bench.recipe.pretrain, bench.device
    size = settings.crop_size or bench.recipe.data.size
    network, width = backbones.build(settings.backbone, bench.bands, settings.stem)
    backbone, method = network.to(device), METHODS[settings.method.name](network, width, settings.method).to(device)
    whole = nn.ModuleList([backbone, method])
    tiles = bench.tiles(max(settings.batch, bench.recipe.compare.batch))
    optimizer = optimizers.make(settings.optimizer, whole, settings.tiles_per_step)
    others = range(1, 1 + settings.generative_views)
    adamw = torch.optim.AdamW(backbone.parameters())

    def represented(views: Tensor) -> Tensor:
        result: Tensor = backbone(views.contiguous(memory_format=torch.channels_last))
        return result

    def draws(count: int) -> Randomness:
        return Randomness(0, "check", 2, torch.arange(count))

    def contrast(count: int) -> None:
        views = [
            handcrafted(tiles[:count], settings.handcrafted, min(view, 1), size, bench.rgb, draws(count))
            for view in (0, *others)
        ]
        crops = range(settings.small_crops.count)
        views += [small_crop(tiles[:count], settings, crop, bench.rgb, draws(count)) for crop in crops]
        optimizer.zero_grad()
        seen = [represented(view) for view in views]
        small = range(1 + len(others), len(views))
        pairs = [[0, other, *small] for other in others]
        terms = [method([seen[i] for i in pair], [views[i] for i in pair], 1.0) for pair in pairs]
        torch.autograd.backward(torch.stack([term for of_pair in terms for term in of_pair.values()]).sum())
        optimizer.step()
        method.follow(backbone, 1.0)

    def classify(count: int) -> None:
        views = paired(tiles[:count], ["crop", "flip"], settings.handcrafted, size, bench.rgb, draws(count))
        adamw.zero_grad()
        torch.autograd.backward(represented(views).square().mean())
        adamw.step()

    @torch.inference_mode()
    def embed(count: int) -> None:
        represented(tiles[:count])

    pretrain = bench.cost(contrast, settings.tiles_per_step, [whole])
    supervised = bench.cost(classify, bench.recipe.compare.batch, [backbone])
    backbone.eval()
    return pretrain, supervised, bench.cost(embed, bench.recipe.compare.batch, [backbone], learns=False)

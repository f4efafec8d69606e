"""Stage: fit the VQGAN to the training tiles.

Shapes: b n tiles, c bands, h w pixels.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom.console import say, warn
from gcl_custom.generator import build_networks
from gcl_custom.generator.build_networks import AnyTokenizer
from gcl_custom.generator.own.quantizer import share_and_perplexity
from gcl_custom.generator.own.vqgan_loss import Adversary, Reconstruction, adversarial_gradient
from gcl_custom.imagery.symmetry import turn, ways
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.feature_networks import FeatureNetwork, feature_network, frechet_distance
from gcl_custom.measures.similarity import structural_similarity
from gcl_custom.pictures import grid
from gcl_custom.randomness import Randomness, derive
from gcl_custom.recipe.features import WithoutNetworkSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch, Batches
from gcl_custom.training.devices import autocast, pick_device
from gcl_custom.training.loop import Trainable, fit
from gcl_custom.training.optimizers import rise_times_cosine
from gcl_custom.weights.state_dicts import save_weights

STAGE = "tokenizer"
EVALUATIONS = 20
"""About how many there are in a run."""
VALIDATION_TILES = 256
"""Most tiles that an evaluation during training looks at."""
WARMUP = 0.02
"""Share of the run over which the learning rate rises; then it falls as a cosine to 0."""
MOST_GRADIENT = 1.0
"""Norm to which gradients are cut."""


def fit_tokenizer(run: Run) -> None:
    """Fit the tokenizer of a run, save ``vqgan.safetensors`` and state its quality on the test tiles.

    Raises:
        UserError: stale output, missing tiles or weights, or a loss that is not finite.
    """
    stage = plan.tokenizer(run)
    if stage.done:
        say(f"{STAGE}: done before, in {stage.path}")
        return
    stage.begin()
    recipe, settings = run.recipe, run.recipe.tokens.tokenizer
    store = TileStore(plan.tiles(run).path)
    batches = Batches(store.index("train"), settings.batch, recipe.seed, store.read)
    training = TokenizerTraining(recipe, store, batches.steps_per_epoch)
    if settings.epochs:
        fit(training, batches, stage, recipe.hardware, settings.epochs, recipe.seed)
    save_weights(stage.path / plan.TOKENIZER, training.net)

    device = pick_device(recipe.hardware)
    training.to(device).eval()
    with torch.no_grad(), autocast(recipe.hardware, device):
        quality = Quality(store, store.index("test"), training.network).of(training.net)
    parameters = sum(parameter.numel() for parameter in training.net.parameters())
    warnings = training.warnings(quality["codes_used"])
    stage.finish(**quality, feature_network=training.network.name, parameters=parameters, warnings=warnings)
    say(
        f"{STAGE}: on {len(store.index('test'))} test tiles {quality['psnr']:.2f} dB, SSIM {quality['ssim']:.3f}, "
        f"{quality['codes_used']:.0%} of the codes used"
    )


class TokenizerTraining(Trainable):
    """Trains the VQGAN and, from a share of the run on, its discriminator.

    Both learn from one backward pass, which their losses share no parameters in.
    """

    def __init__(self, recipe: Recipe, store: TileStore, steps_per_epoch: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings, self.symmetry = recipe.tokens.tokenizer, recipe.data.symmetry
        self.seed, self.store = recipe.seed, store
        self.steps = self.settings.epochs * steps_per_epoch
        self.evaluate_every = math.ceil(self.settings.epochs / EVALUATIONS)
        torch.manual_seed(derive(self.seed, STAGE, "weights"))
        self.net = build_networks.tokenizer(self.settings, store.bands)
        self.adversary = Adversary(store.bands, self.settings.lecam, self.settings.adversary_channels)
        self.network = feature_network(self.settings.perceptual)
        compared = None if isinstance(self.settings.perceptual, WithoutNetworkSettings) else self.network
        self.reconstruction = Reconstruction(self.settings.perceptual.weight, compared)
        self._share_done, self._saturated = 0.0, 0
        self._validation = evenly(store.index("valid"), VALIDATION_TILES)
        self._quality = Quality(store, self._validation, self.network)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        parts = (self.net, self.adversary)
        return [torch.optim.AdamW(part.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=1e-4) for part in parts]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        generator, discriminator = self.optimizers()  # type: ignore[attr-defined, unused-ignore]
        share_done = batch.step / self.steps
        for optimizer in (generator, discriminator):
            for group in optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * rise_times_cosine(share_done, WARMUP)

        way = Randomness(self.seed, STAGE, batch.step, batch.tiles).uniform("way")
        real = self.store.unit(turn(batch.data, ways(self.symmetry, way)))
        fake, quantised = self.net(real)
        # Losses on the pixels are run backwards to the pixels, and the net once from there: see adversarial_gradient.
        pixels = fake.detach().requires_grad_()
        loss, figures = self.reconstruction(pixels, real)
        (gradient,) = torch.autograd.grad(loss, pixels)
        backward = quantised.loss
        if share_done >= self.settings.adversary_start:
            judged = self.adversary(real, pixels)
            (adversarial,) = torch.autograd.grad(judged.generator, pixels, retain_graph=True)
            weight = self.adversary_weight(share_done) * judged.trust
            gradient, adaptive = adversarial_gradient(fake, gradient, adversarial, self.net.last_layer, weight)
            backward = backward + judged.discriminator
            figures |= {"discriminator": judged.discriminator.detach(), "trust": judged.trust}
            figures |= {"generator": judged.generator.detach(), "adaptive_weight": adaptive}
        backward = backward + (fake * gradient).sum()  # whose gradient at the pixels is ``gradient``

        generator.zero_grad()
        discriminator.zero_grad()
        self.manual_backward(backward)
        for part in (self.net, self.adversary):
            nn.utils.clip_grad_norm_(part.parameters(), MOST_GRADIENT)
        for optimizer in (generator, discriminator):
            optimizer.step()
        self._share_done = share_done
        self.record({"loss": loss.detach(), "quantizer": quantised.loss.detach(), **figures})

    def adversary_weight(self, share_done: float) -> float:
        """Of the adversarial loss, before trust: it grows from 0 while the discriminator learns already."""
        warmup, since = self.settings.adversary_warmup, share_done - self.settings.adversary_start
        return self.settings.adversary_weight * (min(1.0, since / warmup) if warmup else 1.0)

    def evaluate(self) -> dict[str, float]:
        quality = self._quality.of(self.net)
        for line in self.warnings(quality["codes_used"]):
            warn(line)
        return quality

    def warnings(self, codes_used: float) -> list[str]:
        """What a reader should know about the state of training."""
        lines = []
        if self._share_done > 0.1 and codes_used < 0.5:
            lines.append(
                f"the codebook is collapsing: only {codes_used:.0%} of the codes are used. "
                f"Lower generator.tokenizer.revive_after, code_width or learning_rate"
            )
        won = self.adversary.mean_real > 1 and self.adversary.mean_fake < -1
        self._saturated = self._saturated + 1 if won else 0
        if self._saturated >= 3:
            lines.append(
                "the discriminator is winning: it has told real tiles from reconstructions for three evaluations. "
                "Raise generator.tokenizer.lecam or adversary_start, or lower adversary_weight"
            )
        return lines

    def pictures(self) -> dict[str, Float[Tensor, "3 h w"]]:
        tiles = self.store.unit(self.store.read(evenly(self._validation, 12)).to(self.device))
        return {"reconstructions": grid([tiles, self.net.decode_tokens(self.net.tokenise(tiles))])}


def evenly(index: Int[Tensor, " n"], most: int) -> Int[Tensor, " m"]:
    """At most so many entries, spread evenly.

    Not imagery.spread, which rounds: figures of tokenizers would be of other tiles than before.
    """
    return index[torch.linspace(0, len(index) - 1, min(most, len(index))).long()]


class Quality:
    """How well a VQGAN reconstructs certain tiles.

    psnr: in dB, the mean over tiles of each tile's own. ssim: Wang et al. 2004, with a Gaussian window.
    feature_distance: the Fréchet distance between tiles and reconstructions on the features of ``network``, which is
    FID but for its network. codes_used, perplexity: over all tokens of the tiles.
    """

    def __init__(self, store: TileStore, index: Int[Tensor, " n"], network: FeatureNetwork) -> None:
        self._store, self._index, self._network = store, index, network
        self._features: Tensor | None = None

    def of(self, net: AnyTokenizer) -> dict[str, float]:
        counts = torch.zeros(net.codes, dtype=torch.long, device=net.last_layer.device)
        psnr, ssim, features_real, features_fake = [], [], [], []
        for tiles in self._index.split(64):
            real = self._store.unit(self._store.read(tiles).to(counts.device))
            tokens = net.tokenise(real)
            fake = net.decode_tokens(tokens)
            counts += torch.bincount(tokens.flatten(), minlength=len(counts))
            mean_square = (real - fake).square().mean((1, 2, 3)).clamp(min=1e-10)
            psnr.append(-10 * mean_square.log10())
            ssim.append(structural_similarity(fake, real))
            features_fake.append(self._network.pooled(fake))
            if self._features is None:
                features_real.append(self._network.pooled(real))
        if self._features is None:
            self._features = torch.cat(features_real)
        codes_used, perplexity = share_and_perplexity(counts)
        return {
            "psnr": torch.cat(psnr).mean().item(),
            "ssim": torch.cat(ssim).mean().item(),
            "feature_distance": frechet_distance(self._features, torch.cat(features_fake)),
            "codes_used": codes_used,
            "perplexity": perplexity,
        }

"""The trainings of a token generator's two networks: the tokenizer, and MaskGIT on its tokens.

    b  tiles in a batch     c  bands     h w  pixels of a tile, or its grid of tokens     n  tiles

MaskGIT over-fits small data sets: with a few thousand tiles the validation loss rises long before the training loss
stops falling. So the weights that are kept are those of the moving average at the evaluation with the lowest
masked-token loss on the validation tiles. They are part of the checkpoints, so a resumed run keeps the same ones.

Nor is it known beforehand how many epochs MaskGIT needs. With ``patience`` the learning rate stays at its highest until
that loss has hardly fallen for a share of the epochs so far. It then falls to 0, and training ends. What decides is the
history alone, so a resumed run ends where an undisturbed one does, and so do all processes.
"""

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gcl_custom.console import say, warn
from gcl_custom.counted import counted
from gcl_custom.generator import build_networks
from gcl_custom.generator.augment.masks import training_mask
from gcl_custom.generator.build_networks import AnyTokenizer
from gcl_custom.generator.own.quantizer import share_and_perplexity
from gcl_custom.generator.own.vqgan_loss import Adversary, Reconstruction, adversarial_gradient
from gcl_custom.generator.token_generator import TokenGenerator
from gcl_custom.generator.token_store import Tokens
from gcl_custom.imagery.symmetry import turn, ways
from gcl_custom.imagery.tile_store import TileStore, even_places, thinned
from gcl_custom.measures.feature_networks import FeatureNetwork, feature_network, frechet_distance
from gcl_custom.measures.recognised import Recognised, recognised
from gcl_custom.measures.similarity import structural_similarity
from gcl_custom.pictures import grid
from gcl_custom.randomness import Randomness, derive
from gcl_custom.recipe.features import WithoutNetworkSettings
from gcl_custom.recipe.generator import TokenizerSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.schedules import flat_since, rise_stay_fall, rise_times_cosine
from gcl_custom.training.batches import Batch
from gcl_custom.training.fsdp import Large
from gcl_custom.training.optimizers import without_decay
from gcl_custom.training.steps import Trainable

TOKENIZER, MASKGIT = "tokenizer", "maskgit"
"""The stages, by which random draws are named."""
MOST_GRADIENT = 1.0
"""Norm to which gradients are cut."""

TOKENIZER_EVALUATIONS, MASKGIT_EVALUATIONS = 20, 25
"""About how many there are in a run."""
TOKENIZER_TILES, MASKGIT_TILES = 256, 1024
"""Most validation tiles that an evaluation during training looks at."""
TOKENIZER_WARMUP, MASKGIT_WARMUP = 0.02, 0.05
"""Share of the run over which the learning rate rises."""
BETAS = (0.9, 0.96)
WEIGHT_DECAY = 0.05
"""Of MaskGIT's matrices; betas and decay are about those of its paper."""
LEAST_FALL = 0.01
"""Nats by which the held-out masked-token loss falls where more training is of use."""
LEAST_STEPS = 1000
"""With fewer steps done nothing is decided by it."""
FALLING = 0.2
"""Share of all steps over which the learning rate falls, once it is known how many there are."""
RISING_STEPS = 500
"""Most steps over which it rises where that is not known beforehand."""
DUE, LEAST_GAP = 0.2, 0.1
"""Share of the run after which the masked-token loss should lie so many nats below the marginal entropy."""
SITS = 2000
"""Steps after which it should at the latest. A small network has stayed at that entropy for 1,239 of them."""
SHOWN = 8
"""Tiles in a picture of MaskGIT's views."""


class TokenizerTraining(Trainable):
    """Trains the VQGAN and, from a share of the run on, its discriminator.

    Both learn from one backward pass, since their losses share no parameters.
    """

    saturated: Int[Tensor, ""]
    """Number of evaluations in a row at which the discriminator told real tiles from reconstructions."""

    def __init__(self, recipe: Recipe, store: TileStore, steps_per_epoch: int) -> None:
        super().__init__()
        self.settings, self.symmetry = recipe.tokens.tokenizer, recipe.data.symmetry
        self.seed, self.store = recipe.seed, store
        self._quicklook = recipe.data.quicklook
        self.steps = self.settings.epochs * steps_per_epoch
        self.evaluate_every = math.ceil(self.settings.epochs / TOKENIZER_EVALUATIONS)
        torch.manual_seed(derive(self.seed, TOKENIZER, "weights"))
        self.net = build_networks.tokenizer(self.settings, store.bands)
        self.adversary = Adversary(store.bands, self.settings.lecam, self.settings.adversary_channels)
        self.network = feature_network(self.settings.perceptual)
        compared = None if isinstance(self.settings.perceptual, WithoutNetworkSettings) else self.network
        self.reconstruction = Reconstruction(self.settings.perceptual.weight, compared)
        self._share_done = 0.0
        self.register_buffer("saturated", torch.tensor(0))
        self._warned: set[str] = set()
        self._validation = evenly(store.index("valid"), TOKENIZER_TILES)
        self._quality = Quality(store, self._validation, self.network)

    def make_optimizer(self) -> torch.optim.Optimizer:
        groups = [{"params": list(part.parameters())} for part in (self.net, self.adversary)]
        return torch.optim.AdamW(groups, self.settings.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)

    def schedule(self, step: int) -> float:
        return rise_times_cosine(step / self.steps, TOKENIZER_WARMUP)

    def training_step(self, batch: Batch) -> Tensor:
        share_done = batch.step / self.steps
        way = Randomness(self.seed, TOKENIZER, batch.step, batch.tiles).uniform("way")
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
        self._share_done = share_done
        self.record({"loss": loss.detach(), "quantizer": quantised.loss.detach(), **figures})
        return backward + (fake * gradient).sum()  # whose gradient at the pixels is ``gradient``

    def clip(self) -> None:
        for part in (self.net, self.adversary):
            nn.utils.clip_grad_norm_(part.parameters(), MOST_GRADIENT)

    def adversary_weight(self, share_done: float) -> float:
        """The weight of the adversarial loss, before trust. It grows from 0 while the discriminator already learns."""
        warmup, since = self.settings.adversary_warmup, share_done - self.settings.adversary_start
        return self.settings.adversary_weight * (min(1.0, since / warmup) if warmup else 1.0)

    def evaluate(self) -> dict[str, float]:
        quality = self._quality.of(self.net)
        won = self.adversary.mean_real > 1 and self.adversary.mean_fake < -1
        self.saturated.copy_(self.saturated + 1 if won else torch.tensor(0))
        for kind, line in self.warnings(quality["codes_used"], self._quality.possible, self._share_done).items():
            if kind not in self._warned:
                warn(line)
            self._warned.add(kind)
        return quality

    def warnings(self, codes_used: float, possible: float, share_done: float) -> dict[str, str]:
        """What goes wrong in training -> a line on it, for a reader. ``possible`` is that of ``Quality``."""
        lines, own = {}, self.settings if isinstance(self.settings, TokenizerSettings) else None
        if own and codes_used < 0.5 * possible:
            used = f"only {codes_used:.0%} of the codes are used"
            if self.steps <= own.revive_after:
                lines["short"] = (
                    f"{used}: the training has {counted(self.steps, 'step')}, and unused codes are revived after "
                    f"{own.revive_after}. Raise generator.tokenizer.epochs or lower generator.tokenizer.revive_after"
                )
            elif share_done > 0.1 and share_done * self.steps > own.revive_after:
                lines["codebook"] = (
                    f"the codebook is collapsing: {used}. Lower generator.tokenizer.revive_after, code_width or "
                    f"learning_rate"
                )
        if self.saturated >= 3:
            lines["discriminator"] = (
                "the discriminator is winning: it has told real tiles from reconstructions for three evaluations. "
                "Raise generator.tokenizer.lecam or adversary_start, or lower adversary_weight"
            )
        return lines

    def pictures(self) -> dict[str, Float[Tensor, "3 h w"]]:
        tiles = self.store.unit(self.store.read(evenly(self._validation, 12)).to(self.device))
        rows = [tiles, self.net.decode_tokens(self.net.tokenise(tiles))]
        return {"reconstructions": grid(rows, self.store.quicklook(self._quicklook))}


def evenly(index: Int[Tensor, " n"], most: int) -> Int[Tensor, " m"]:
    """At most so many entries, spread evenly.

    ``spread`` rounds instead: with it, tokenizers would be measured on other tiles than the published ones.
    """
    return index[even_places(len(index), most).long()]


class Quality:
    """How well a VQGAN reconstructs certain tiles.

    psnr: in dB, the mean of the tiles' own. ssim: Wang et al. 2004, with a Gaussian window. feature_distance: the
    Fréchet distance between tiles and reconstructions on the features of ``network``; FID with another network.
    codes_used, perplexity: over all tokens of the tiles.
    """

    seen: tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]
    """The network's features of the tiles and of the last reconstructions."""
    possible: float
    """Share of the codes that as many tokens would show if all codes were equally frequent."""

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
        self.seen = self._features, torch.cat(features_fake)
        codes_used, perplexity = share_and_perplexity(counts)
        self.possible = 1 - math.exp(-counts.sum().item() / len(counts))
        return {
            "psnr": torch.cat(psnr).mean().item(),
            "ssim": torch.cat(ssim).mean().item(),
            "feature_distance": frechet_distance(*self.seen),
            "codes_used": codes_used,
            "perplexity": perplexity,
        }

    def recognised(self) -> Recognised | None:
        """What the network recognises in the last reconstructions, where labels tell."""
        return recognised(*self.seen, self._store.labels[self._index], self._store.kind)


class MaskGITTraining(Trainable):
    """Trains a MaskGIT, lets a moving average follow it, and keeps the best average so far."""

    kept_loss: Float[Tensor, ""]
    kept_epoch: Int[Tensor, ""]

    def __init__(
        self, recipe: Recipe, store: TileStore, tokens: Tokens, tokenizer: AnyTokenizer, steps_per_epoch: int
    ) -> None:
        super().__init__()
        self._recipe, self._settings, self._steps_per_epoch = recipe, recipe.tokens.maskgit, steps_per_epoch
        self._last_epoch: int | None = None
        self._store, self._tokens = store, tokens
        self._tokenizer = (tokenizer,)  # in a tuple, so that checkpoints do not hold it
        self._step, self._warned = -1, False
        self.evaluate_every = math.ceil(self._settings.epochs / MASKGIT_EVALUATIONS)
        self.evaluate_first = self._settings.weights is not None
        torch.manual_seed(derive(recipe.seed, MASKGIT, "weights"))
        codes, side = tokenizer.codes, store.size // recipe.tokens.tokenizer.pixels_per_token
        self.net = build_networks.transformer(self._settings, codes, side)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.kept = copy.deepcopy(self.average)
        self.register_buffer("kept_loss", torch.tensor(math.inf))
        self.register_buffer("kept_epoch", torch.tensor(0))
        # Packed tiles are in every split; those on which a check times steps are all for training.
        valid = store.index("valid") if len(store.index("valid")) else store.index("train")
        self._validation = thinned(valid, MASKGIT_TILES)
        # One more of each code, since validation tiles may hold one that no training tile has.
        counts = (tokens.counts(store.index("train"), codes) + 1).double()
        self._code_length = -(counts / counts.sum()).log()

    def make_optimizer(self) -> torch.optim.Optimizer:
        rate = self._settings.learning_rate
        return torch.optim.AdamW(without_decay(self.net), rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)

    def schedule(self, step: int) -> float:
        if not self._settings.patience:
            return rise_times_cosine(step / self._steps, MASKGIT_WARMUP)
        most = self._settings.epochs * self._steps_per_epoch
        return rise_stay_fall(step, self._steps, min(MASKGIT_WARMUP * most, RISING_STEPS), FALLING)

    @property
    def _steps(self) -> int:
        """Of the whole run, as far as it is known."""
        return (self._last_epoch or self._settings.epochs) * self._steps_per_epoch

    def evaluates(self, epoch: int) -> bool:
        """With patience, after each of the first 31 epochs, then every second one, from 64 on every fourth one, ..."""
        if not self._settings.patience:
            return super().evaluates(epoch)
        return epoch % max(1, 2 ** (epoch.bit_length() - 5)) == 0

    def heed(self, history: Sequence[Mapping[str, float]]) -> None:
        """Decide how many epochs there are. A network that sits at the marginal entropy has not begun to learn."""
        if not self._settings.patience or self._last_epoch:
            return
        first = LEAST_STEPS / self._steps_per_epoch
        learning = (row for row in history if row["epoch"] >= first and row.get("gap", 0) >= LEAST_GAP)
        losses = [(int(row["epoch"]), row["masked_token_loss"]) for row in learning]
        flat = flat_since(losses, self._settings.patience, LEAST_FALL)
        if flat is not None and (last := math.ceil(flat / (1 - FALLING))) < self._settings.epochs:
            self._last_epoch = last
            say(
                f"{MASKGIT}: at epoch {flat} the held-out loss had fallen by less than {LEAST_FALL} nats in the last "
                f"{self._settings.patience:.0%} of the epochs. The learning rate falls to 0 by epoch {last}, the last"
            )

    @property
    def last_epoch(self) -> int | None:
        return self._last_epoch

    def training_step(self, batch: Batch) -> Tensor:
        self._step = batch.step
        rng = Randomness(self._recipe.seed, MASKGIT, batch.step, batch.tiles)
        way = ways(self._recipe.data.symmetry, rng.uniform("way"))
        tokens = batch.data[torch.arange(len(way), device=way.device), way]
        loss = self.net.loss(tokens, training_mask(rng, *tokens.shape[1:]), self._settings.label_smoothing)
        self.record({"loss": loss.detach()})
        return loss

    def clip(self) -> None:
        weights = [weight for group in without_decay(self.net) for weight in group["params"]]
        nn.utils.clip_grad_norm_(weights, MOST_GRADIENT)

    def follow(self) -> None:
        """Let the average follow. Its decay grows to the full value, so that it forgets the start of training."""
        decay = min(self._settings.ema_decay, (1 + self._step) / (10 + self._step))
        with torch.no_grad():
            for average, live in zip(self.average.parameters(), self.net.parameters(), strict=True):
                average.lerp_(live, 1 - decay)

    def large(self) -> Large:
        return Large(self.net, (self.average, self.kept), self.average)

    @torch.no_grad()
    def judge_start(self) -> None:
        """Keep the initial weights, as those of epoch 0, until there are better ones."""
        self.average.eval()
        self.keep(self.evaluate())
        self.average.train()

    def evaluate(self) -> dict[str, float]:
        total, count = 0.0, 0
        for tokens, hidden in self.hidden_validation():
            total += self.average.loss(tokens, hidden, smoothing=0.0).item() * int(hidden.sum())
            count += int(hidden.sum())
        loss, gap = total / count, self.marginal_entropy() - total / count
        due = min(DUE, SITS / max(self._steps, 1)) if self._settings.patience else DUE
        line = warning(gap, (self._step + 1) / self._steps if self._steps else 1.0, due)
        if line and not self._warned:
            warn(line)
        self._warned = self._warned or line is not None
        return {"masked_token_loss": loss, "gap": gap}

    def keep(self, figures: Mapping[str, float]) -> None:
        """Keep the average if its loss is the lowest so far."""
        if figures["masked_token_loss"] < self.kept_loss:
            self.kept.load_state_dict(self.average.state_dict())
            self.kept_loss.fill_(figures["masked_token_loss"])
            self.kept_epoch.fill_((self._step + 1) // self._steps_per_epoch)

    def marginal_entropy(self) -> float:
        """Nats a validation token costs if only the share of each code in the training tiles is known.

        It is averaged over the same hidden tokens as the masked-token loss. The gap between the two is what MaskGIT
        learnt from context.
        """
        tokens = torch.cat([tokens[hidden].cpu() for tokens, hidden in self.hidden_validation()])
        return self._code_length[tokens].mean().item()

    def hidden_validation(self) -> list[tuple[Int[Tensor, "b h w"], Bool[Tensor, "b h w"]]]:
        """The upright validation tokens, hidden as in training, but the same ones at each evaluation."""
        batches = []
        for tiles in torch.split(self._validation, self._settings.batch):
            tokens = self._tokens.read(tiles)[:, 0].to(self.device)
            rng = Randomness(self._recipe.seed, f"{MASKGIT} validation", 0, tiles.to(self.device))
            batches.append((tokens, training_mask(rng, *tokens.shape[1:])))
        return batches

    def pictures(self) -> dict[str, Float[Tensor, "3 h w"]]:
        tiles = thinned(self._validation, SHOWN).to(self.device)
        generator = TokenGenerator(
            self._tokenizer[0], self.average, self._recipe.views, self._recipe.hardware, self.device
        )
        rng = Randomness(self._recipe.seed, f"{MASKGIT} pictures", 0, tiles)
        pixels = self._store.unit(self._store.read(tiles))
        rows = generator.shown(pixels, generator.encode(pixels, rng), rng)
        return {"views": grid(rows, self._store.quicklook(self._recipe.data.quicklook))}


def warning(gap: float, share_done: float, due: float = DUE) -> str | None:
    """A line for a reader if nothing is learnt from context after a share of the run that is due."""
    if share_done <= due or gap >= LEAST_GAP:
        return None
    where = f"only {gap:.2f} nats below" if gap > 0 else f"{-gap:.2f} nats above"
    return (
        f"after {share_done:.0%} of the run MaskGIT's masked-token loss is {where} the marginal entropy: it has hardly "
        f"learnt yet to fill in a token from those around it, so views will look like noise. Train longer "
        f"(generator.maskgit.epochs), raise generator.maskgit.learning_rate, or lower generator.tokenizer.codes"
    )

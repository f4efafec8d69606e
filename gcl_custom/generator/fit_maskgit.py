"""Stage: fit MaskGIT to the stored tokens.

    b  tiles in a batch     s  ways in which a tile may be flipped and turned     h w  grid of tokens     n  tiles

MaskGIT over-fits small data sets: with a few thousand tiles the validation loss turns upwards long before the training
loss ends falling. So the weights that are kept are those, of the moving average at the evaluations, that had the lowest
masked-token loss on the validation tiles. They are part of the checkpoints, so a resumed run keeps the same ones.
"""

import copy
import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gcl_custom.console import say, warn
from gcl_custom.generator import build_networks
from gcl_custom.generator.augment.masks import training_mask
from gcl_custom.generator.build_networks import AnyTokenizer
from gcl_custom.generator.loading import load_tokenizer
from gcl_custom.generator.token_generator import TokenGenerator
from gcl_custom.generator.token_store import Tokens
from gcl_custom.imagery.symmetry import ways
from gcl_custom.imagery.tile_store import TileStore, thinned
from gcl_custom.pictures import grid
from gcl_custom.randomness import Randomness, derive
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch, Batches
from gcl_custom.training.devices import pick_device
from gcl_custom.training.loop import Trainable, fit
from gcl_custom.training.optimizers import rise_times_cosine, without_decay
from gcl_custom.weights.state_dicts import save_weights

STAGE = "maskgit"
EVALUATIONS = 25
"""About how many there are in a run."""
VALIDATION_TILES = 1024
"""Most tiles that an evaluation looks at."""
SHOWN = 8
WARMUP = 0.05
"""Share of the run over which the learning rate rises; then it falls as a cosine to 0."""
BETAS = (0.9, 0.96)
WEIGHT_DECAY = 0.05
"""Of matrices; betas and decay are about those of MaskGIT's paper."""
MOST_GRADIENT = 1.0
"""Norm to which gradients are cut."""
PATIENCE, LEAST_GAP = 0.2, 0.1
"""Share of the run after which the masked-token loss should lie so many nats below the marginal entropy."""


def fit_maskgit(run: Run) -> None:
    """Fit MaskGIT, save ``maskgit.safetensors`` and state its loss on the validation tiles.

    Raises:
        UserError: stale output, a missing or unfitting tokenizer, or a loss that is not finite.
    """
    stage = plan.maskgit(run)
    if stage.done:
        say(f"{STAGE}: done before, in {stage.path}")
        return
    stage.begin()
    recipe, settings = run.recipe, run.recipe.tokens.maskgit
    store = TileStore(plan.tiles(run).path)
    tokenizer = load_tokenizer(run, store)
    tokens = Tokens(plan.tokens(run).path, store)
    batches = Batches(store.index("train"), settings.batch, recipe.seed, tokens.read)
    training = MaskGITTraining(recipe, store, tokens, tokenizer, batches.steps_per_epoch)
    if settings.epochs:
        fit(training, batches, stage, recipe.hardware, settings.epochs, recipe.seed)
    else:
        training.to(pick_device(recipe.hardware)).judge_start()
    save_weights(stage.path / plan.MASKGIT, training.kept)

    loss, entropy, epoch = training.kept_loss.item(), training.marginal_entropy(), int(training.kept_epoch)
    stage.finish(
        masked_token_loss=loss,
        marginal_entropy=entropy,
        gap=entropy - loss,
        kept_epoch=epoch,
        parameters=sum(parameter.numel() for parameter in training.net.parameters()),
        warnings=[line] if (line := warning(entropy - loss, 1.0)) else [],
    )
    say(
        f"{STAGE}: masked-token loss {loss:.3f} nats on validation tiles, {entropy - loss:.3f} below the marginal "
        f"entropy, with the weights of epoch {epoch} of {settings.epochs}"
    )


class MaskGITTraining(Trainable):
    """Trains a MaskGIT, its moving average beside it, and keeps the best average so far."""

    kept_loss: Float[Tensor, ""]
    kept_epoch: Int[Tensor, ""]

    def __init__(
        self, recipe: Recipe, store: TileStore, tokens: Tokens, tokenizer: AnyTokenizer, steps_per_epoch: int
    ) -> None:
        super().__init__()
        self._recipe, self._settings, self._steps_per_epoch = recipe, recipe.tokens.maskgit, steps_per_epoch
        self._steps = self._settings.epochs * steps_per_epoch
        self._store, self._tokens = store, tokens
        self._tokenizer = (tokenizer,)  # in a tuple, so that checkpoints do not hold it
        self._step, self._warned = 0, False
        self.evaluate_every = math.ceil(self._settings.epochs / EVALUATIONS)
        torch.manual_seed(derive(recipe.seed, STAGE, "weights"))
        codes, side = tokenizer.codes, store.size // recipe.tokens.tokenizer.pixels_per_token
        self.net = build_networks.transformer(self._settings, codes, side)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.kept = copy.deepcopy(self.average)
        self.register_buffer("kept_loss", torch.tensor(math.inf))
        self.register_buffer("kept_epoch", torch.tensor(0))
        valid = store.index("valid") if len(store.index("valid")) else store.index("train")
        self._validation = thinned(valid, VALIDATION_TILES)
        # One more of each code, since validation tiles may hold one that no training tile has.
        counts = (tokens.counts(store.index("train"), codes) + 1).double()
        self._code_length = -(counts / counts.sum()).log()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(without_decay(self.net), lr=0.0, betas=BETAS, weight_decay=WEIGHT_DECAY)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._step = batch.step
        optimizer = self.optimizers()
        assert isinstance(optimizer, torch.optim.Optimizer)
        for group in optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * rise_times_cosine(batch.step / self._steps, WARMUP)
        rng = Randomness(self._recipe.seed, STAGE, batch.step, batch.tiles)
        way = ways(self._recipe.data.symmetry, rng.uniform("way"))
        tokens = batch.data[torch.arange(len(way), device=way.device), way]
        loss = self.net.loss(tokens, training_mask(rng, *tokens.shape[1:]), self._settings.label_smoothing)
        self.record({"loss": loss.detach()})
        return loss

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=MOST_GRADIENT, gradient_clip_algorithm="norm")

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, then let the average follow: here, and not in a later hook, so that no checkpoint comes between.

        The average's decay grows to its full value, so that it forgets the start of training.
        """
        super().optimizer_step(*arguments, **options)
        decay = min(self._settings.ema_decay, (1 + self._step) / (10 + self._step))
        with torch.no_grad():
            for average, live in zip(self.average.parameters(), self.net.parameters(), strict=True):
                average.lerp_(live, 1 - decay)

    def on_train_start(self) -> None:
        if self._settings.weights and self.kept_loss.isinf():
            self.judge_start()

    @torch.no_grad()
    def judge_start(self) -> None:
        """Keep the weights that training starts from, until there are better ones; they are those of epoch 0."""
        self.average.eval()
        self.evaluate()
        self.average.train()
        self.kept_epoch.zero_()

    def evaluate(self) -> dict[str, float]:
        total, count = 0.0, 0
        for tokens, hidden in self._hidden_validation():
            total += self.average.loss(tokens, hidden, smoothing=0.0).item() * int(hidden.sum())
            count += int(hidden.sum())
        loss, gap = total / count, self.marginal_entropy() - total / count
        if loss < self.kept_loss:
            self.kept.load_state_dict(self.average.state_dict())
            self.kept_loss.fill_(loss)
            self.kept_epoch.fill_((self._step + 1) // self._steps_per_epoch)
        line = warning(gap, (self._step + 1) / self._steps if self._steps else 1.0)
        if line and not self._warned:
            warn(line)
        self._warned = self._warned or line is not None
        return {"masked_token_loss": loss, "gap": gap}

    def marginal_entropy(self) -> float:
        """What the validation tokens cost in nats if only the share of each code in the training tiles is known.

        It is taken over the same hidden tokens as the masked-token loss; their gap is what MaskGIT learnt from context.
        """
        tokens = torch.cat([tokens[hidden].cpu() for tokens, hidden in self._hidden_validation()])
        return self._code_length[tokens].mean().item()

    def _hidden_validation(self) -> list[tuple[Int[Tensor, "b h w"], Bool[Tensor, "b h w"]]]:
        """The validation tokens, upright, with the same ones hidden at each evaluation, as in training."""
        batches = []
        for tiles in torch.split(self._validation, self._settings.batch):
            tokens = self._tokens.read(tiles)[:, 0].to(self.device)
            rng = Randomness(self._recipe.seed, f"{STAGE} validation", 0, tiles.to(self.device))
            batches.append((tokens, training_mask(rng, *tokens.shape[1:])))
        return batches

    def pictures(self) -> dict[str, Float[Tensor, "3 h w"]]:
        tiles = thinned(self._validation, SHOWN).to(self.device)
        generator = TokenGenerator(
            self._tokenizer[0], self.average, self._recipe.views, self._recipe.hardware, self.device
        )
        rng = Randomness(self._recipe.seed, f"{STAGE} pictures", 0, tiles)
        pixels = self._store.unit(self._store.read(tiles))
        return {"views": grid(generator.shown(pixels, generator.encode(pixels, rng), rng))}


def warning(gap: float, share_done: float) -> str | None:
    """What a reader should know where nothing is learnt from context."""
    if share_done <= PATIENCE or gap >= LEAST_GAP:
        return None
    return (
        f"after {share_done:.0%} of the run MaskGIT's masked-token loss is only {gap:.2f} nats below the marginal "
        f"entropy: it knows how often each code occurs, but hardly learns from the tokens around, so views will look "
        f"like noise. Train longer (generator.maskgit.epochs), raise generator.maskgit.learning_rate, or lower "
        f"generator.tokenizer.codes"
    )

"""Stage: fit MaskGIT to the stored tokens."""

from gcl_custom.console import say
from gcl_custom.generator.loading import load_tokenizer
from gcl_custom.generator.token_store import Tokens
from gcl_custom.generator.token_training import MaskGITTraining, warning
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batches
from gcl_custom.training.devices import pick_device
from gcl_custom.training.loop import fit
from gcl_custom.weights.state_dicts import save_weights


def fit_maskgit(run: Run) -> None:
    """Fit MaskGIT, save ``maskgit.safetensors`` and state its loss on the validation tiles.

    Raises:
        UserError: stale output, a missing or unfitting tokenizer, or a loss that is not finite.
    """
    stage = plan.maskgit(run)
    if stage.done:
        say(f"{stage.name}: done before, in {stage.path}")
        return
    stage.begin()
    recipe, settings = run.recipe, run.recipe.tokens.maskgit
    store = TileStore(plan.tiles(run).path)
    tokenizer = load_tokenizer(run, store)
    tokens = Tokens(plan.tokens(run).path, store)
    processes = recipe.hardware.processes
    batches = Batches(store.index("train"), settings.batch, recipe.seed, tokens.read, shares=processes)
    training = MaskGITTraining(recipe, store, tokens, tokenizer, batches.steps_per_epoch)
    trained = 0
    if settings.epochs:
        history = fit(training, batches, stage, recipe.hardware, settings.epochs, recipe.seed)
        trained = int(history[-1]["epoch"])
    else:
        training.to(pick_device(recipe.hardware)).judge_start()
    save_weights(stage.path / plan.MASKGIT, training.kept)

    loss, entropy, epoch = training.kept_loss.item(), training.marginal_entropy(), int(training.kept_epoch)
    stage.finish(
        masked_token_loss=loss,
        marginal_entropy=entropy,
        gap=entropy - loss,
        epochs=trained,
        kept_epoch=epoch,
        parameters=sum(parameter.numel() for parameter in training.net.parameters()),
        warnings=[line] if (line := warning(entropy - loss, 1.0)) else [],
    )
    say(
        f"{stage.name}: masked-token loss {loss:.3f} nats on validation tiles, where the marginal entropy is "
        f"{entropy:.3f}; the weights are those of epoch {epoch} of {trained}"
    )
    if trained < settings.epochs:
        say(
            f"{stage.name}: ended after epoch {trained} of at most {settings.epochs}, since the held-out loss had "
            f"hardly fallen (generator.maskgit.patience)"
        )

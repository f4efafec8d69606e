"""Stage: fit the VQGAN to the training tiles."""

import torch

from gcl_custom.console import say, warn
from gcl_custom.counted import counted
from gcl_custom.generator.token_training import Quality, TokenizerTraining
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batches
from gcl_custom.training.devices import autocast, pick_device
from gcl_custom.training.loop import fit
from gcl_custom.weights.state_dicts import save_weights

MORE_DETAIL = (
    "the tokenizer loses what is to be learned. Lower generator.tokenizer.pixels_per_token (2 is the least), which "
    "helps most, then raise epochs and codes, and compare all of the network's maps (perceptual.maps: 5). With "
    "views.pixels: own, views keep the tile's own pixels where no token changed"
)


def fit_tokenizer(run: Run) -> None:
    """Fit the tokenizer of a run, save ``vqgan.safetensors`` and state its quality on the test tiles.

    Raises:
        UserError: stale output, missing tiles or weights, or a loss that is not finite.
    """
    stage = plan.tokenizer(run)
    if stage.done:
        say(f"{stage.name}: done before, in {stage.path}")
        return
    stage.begin()
    recipe, settings = run.recipe, run.recipe.tokens.tokenizer
    store = TileStore(plan.tiles(run).path)
    processes = recipe.hardware.processes
    batches = Batches(store.index("train"), settings.batch, recipe.seed, store.read, store, processes)
    training = TokenizerTraining(recipe, store, batches.steps_per_epoch)
    if settings.epochs:
        fit(training, batches, stage, recipe.hardware, settings.epochs, recipe.seed)
    save_weights(stage.path / plan.TOKENIZER, training.net)

    device = pick_device(recipe.hardware)
    training.to(device).eval()
    with torch.no_grad(), autocast(recipe.hardware, device):
        measured = Quality(store, store.index("test"), training.network)
        quality = measured.of(training.net)
    found = measured.recognised()
    parameters = sum(parameter.numel() for parameter in training.net.parameters())
    warnings = list(training.warnings(quality["codes_used"], measured.possible, 1.0).values())
    if found:
        quality |= found.facts()
        if line := found.warning("reconstructions", MORE_DETAIL):
            warnings.append(line)
            warn(f"{stage.name}: {line}")
    stage.finish(**quality, feature_network=training.network.name, parameters=parameters, warnings=warnings)
    say(
        f"{stage.name}: on {counted(len(store.index('test')), 'test tile')} {quality['psnr']:.2f} dB, SSIM "
        f"{quality['ssim']:.3f}, "
        f"{quality['codes_used']:.0%} of the codes used"
    )
    if found:
        say(f"{stage.name}: in reconstructions, {found}")

"""The backbone of a finished pretraining."""

from torch import nn

from gcl_custom.pretraining import backbones
from gcl_custom.pretraining.start import seeing
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.weights.state_dicts import load_weights

BACKBONE = "backbone.safetensors"


def network_of(run: Run, stage: Stage, bands: int) -> tuple[nn.Module, int]:
    """The backbone of a finished pretraining behind the normalisation of its start, and its width.

    Raises:
        UserError: the weights cannot be read, or do not fit the recipe's backbone.
    """
    settings = run.recipe.pretrain
    network, width = backbones.build(settings.backbone, bands, settings.stem, size=run.recipe.data.size)
    load_weights(stage.path / BACKBONE, network)
    return seeing(settings, network, bands), width

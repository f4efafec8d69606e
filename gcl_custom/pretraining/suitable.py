"""Whether a backbone takes the tiles of a recipe, found out before any stage begins."""

import torch
from torch import nn

from gcl_custom.errors import Refused, UserError
from gcl_custom.pretraining import backbones, layers
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run

BANDS = 3
"""Of the tiles that are tried. What a network takes does not depend on their number."""


def require_suitable(run: Run) -> None:
    """Check the backbone of a run, unless all its pretrainings are done.

    Raises:
        Refused: timm has no such network, or it does not take tiles or views of the recipe's sizes.
    """
    if all(plan.pretrain(run, arm, seed).done for arm, seed in arms.pretrainings(run.recipe)):
        return
    try:
        require_sizes(run.recipe)
    except UserError as error:
        raise Refused(str(error)) from None


def require_sizes(recipe: Recipe) -> None:
    """Try the backbone on a tile and on views of each size that pretraining will show it.

    Raises:
        UserError: timm has no such network, it does not take one of these sizes, or it has not the layers that the
            recipe names.
    """
    settings, size = recipe.pretrain, recipe.data.size
    views = {"pretrain.crop_size": settings.crop_size or size}
    if settings.small_crops.count:
        views["pretrain.small_crops.size"] = settings.small_crops.size
    with torch.random.fork_rng(devices=[]):
        network, width = backbones.build(settings.backbone, BANDS, settings.stem, size=size)
        _try("data.size", network.eval(), size, width, settings.backbone)
        for key, side in views.items():
            _try(key, network.train(), side, width, settings.backbone)
        if settings.trained_layers is not None:
            layers.train_last(network, settings.backbone, settings.trained_layers)
        elif settings.layer_decay < 1:
            layers.layers(network, settings.backbone)


@torch.no_grad()
def _try(key: str, network: nn.Module, side: int, width: int, name: str) -> None:
    try:
        found = network(torch.zeros(2, BANDS, side, side))
    except (AssertionError, RuntimeError, ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise _refusal(key, side, name, str(error)) from None
    if not isinstance(found, torch.Tensor) or found.shape != (2, width):
        raise _refusal(key, side, name, f"it gives no representation of {width} numbers")


def _refusal(key: str, side: int, name: str, reason: str) -> UserError:
    why = f" ({line.rstrip('.')})" if (line := reason.partition("\n")[0]) else ""
    return UserError(
        f"pretrain.backbone: {name} does not take pictures of {side} px, the {key} of this recipe{why}. Choose "
        f"another size, for a network of fixed size one for tiles and all views, or a backbone of any size, such as "
        f"resnet18, convnext_atto or vit_tiny_patch16_224"
    )

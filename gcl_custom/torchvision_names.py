"""timm's weights in torchvision's naming, for the architectures that both have with the same equations.

ResNets and DenseNets bear the same names in both. A vision transformer's position embedding is interpolated to the
tile's size, as timm does at each call; torchvision's network is built for that size and no other.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torchvision
from einops import rearrange
from jaxtyping import Float
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from gcl_custom.errors import UserError

State = dict[str, Tensor]
Names = list[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Pattern of timm's name -> torchvision's; a name that no pattern fits stays."""


class Twin(NamedTuple):
    """torchvision's own version of an architecture."""

    name: str
    stem: str
    """Its first convolution, which depends on the number of bands."""
    head: str
    """What sorts representations into classes."""
    names: Names
    sized: bool = False
    """Whether the network is built for one size of tile."""


RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)
DENSENETS = ("densenet121", "densenet161", "densenet169", "densenet201")
CONVNEXTS = ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")
TRANSFORMERS = {
    "vit_base_patch16_224": "vit_b_16",
    "vit_base_patch32_224": "vit_b_32",
    "vit_large_patch16_224": "vit_l_16",
    "vit_large_patch32_224": "vit_l_32",
}

CONVNEXT_NAMES: Names = [
    (r"^stem\.", "features.0."),
    (r"^stages\.(\d)\.downsample\.", lambda found: f"features.{2 * int(found[1])}."),
    (r"^stages\.(\d)\.blocks\.", lambda found: f"features.{2 * int(found[1]) + 1}."),
    (r"\.gamma$", ".layer_scale"),
    (r"\.conv_dw\.", ".block.0."),
    (r"(\.\d+)\.norm\.", r"\1.block.2."),
    (r"\.mlp\.fc1\.", ".block.3."),
    (r"\.mlp\.fc2\.", ".block.5."),
    (r"^head\.norm\.", "classifier.0."),
]
TRANSFORMER_NAMES: Names = [
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^norm\.", "encoder.ln."),
    (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
    (r"\.norm(\d)\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
]

TWINS: dict[str, Twin] = {
    **{name: Twin(name, "conv1", "fc", []) for name in RESNETS},
    **{name: Twin(name, "features.conv0", "classifier", []) for name in DENSENETS},
    **{name: Twin(name, "features.0.0", "classifier.2", CONVNEXT_NAMES) for name in CONVNEXTS},
    **{
        ours: Twin(theirs, "conv_proj", "heads", TRANSFORMER_NAMES, sized=True) for ours, theirs in TRANSFORMERS.items()
    },
}
"""timm's name -> torchvision's version."""


def twin_of(architecture: str) -> Twin:
    """torchvision's version of an architecture, by timm's name.

    Raises:
        UserError: there is none.
    """
    if architecture not in TWINS:
        raise UserError(
            f"torchvision has no version of {architecture} that its weights fit. It has one of: {', '.join(TWINS)}. "
            f"Any network can be exported with --to timm, onnx or huggingface"
        )
    return TWINS[architecture]


def build(twin: Twin, bands: int, size: int, small_stem: bool) -> tuple[nn.Module, list[str]]:
    """torchvision's network without its head, untrained, and the lines of Python that build it.

    The lines need torch and torchvision imported and name the network ``backbone``.

    Raises:
        UserError: a tile of that size cannot be divided into the network's tokens.
    """
    options: dict[str, Any] = {"image_size": size} if twin.sized else {}
    try:
        network = torchvision.models.get_model(twin.name, weights=None, **options)
    except AssertionError as error:  # as torchvision refuses a size that its tokens do not divide
        raise UserError(f"torchvision's {twin.name} does not take tiles of {size} px: {error}") from None
    said = "".join(f", {name}={value}" for name, value in options.items())
    lines = [f'backbone = torchvision.models.get_model("{twin.name}", weights=None{said})']
    changes: dict[str, nn.Module] = {twin.head: nn.Identity()}
    convolution = network.get_submodule(twin.stem)
    if bands != convolution.in_channels:
        changes[twin.stem] = nn.Conv2d(
            bands, convolution.out_channels, convolution.kernel_size, convolution.stride, convolution.padding,
            bias=convolution.bias is not None,
        )  # fmt: skip
    if small_stem:
        changes["maxpool"] = nn.Identity()
    for place, module in changes.items():
        network.set_submodule(place, module)
        lines.append(f'backbone.set_submodule("{place}", torch.nn.{module!r})')
    return network.eval(), lines


def renamed(state: State, twin: Twin, size: int) -> State:
    """timm's weights under torchvision's names, and in its shapes."""
    found = {}
    for name, value in state.items():
        for pattern, replacement in twin.names:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    if twin.sized:
        side = size // found["conv_proj.weight"].shape[-1]
        found["encoder.pos_embedding"] = resample_abs_pos_embed(found["encoder.pos_embedding"], [side, side])
    return {name: _scale(value) if name.endswith("layer_scale") else value for name, value in found.items()}


def _scale(gamma: Float[Tensor, " d"]) -> Float[Tensor, "d 1 1"]:
    return rearrange(gamma, "d -> d 1 1")

"""Controls of in-painting: the same squares, filled with something that takes no transformer.

    b  tiles in a batch     c  bands     y x  pixels

What does plausible content add to a blur, to foreign content, or to plain erasing? The squares are those that
in-painting hides for the same view, and around them lie the tile's own pixels, as with ``views.pixels: own``.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gcl_custom.generator.token_generator import TokenGenerator, feathered
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.views import Fill


@torch.inference_mode()
def filled(
    generator: TokenGenerator,
    store: TileStore,
    tiles: Float[Tensor, "b c y x"],
    tokens: Int[Tensor, "b h w"],
    fill: Fill,
    rng: Randomness,
) -> Float[Tensor, "b c y x"]:
    """Tiles whose hidden squares show a control.

    Args:
        tokens: of the tiles.
    """
    mean, deviation = (moment[:, None, None].to(tiles) for moment in store.moments)
    match fill:
        case "reconstruction":
            shown = generator.decode(tokens)
        case "other":
            train = store.index("train")
            drawn = (rng.uniform("other tile").cpu() * len(train)).long()
            shown = store.unit(store.read(train[drawn]).to(tiles.device))
        case "noise":
            shown = (mean + deviation * rng.normal("noise", *tiles.shape[1:])).clamp(0, 1)
        case _:
            shown = mean.expand_as(tiles)
    return feathered(tiles, shown, generator.hidden(rng))

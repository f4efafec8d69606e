from functools import partial

import pytest
import torch
from masked_tiles import blocks
from torch import Tensor

from gcl_custom.evaluation.segmentation.aligned import moved_together
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.pretraining import HandcraftedSettings
from gcl_custom.views.handcrafted import paired

GEOMETRY = ("crop", "flip", "vertical_flip", "turn")


def clean(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Tiles whose only band shows the mask, and the masks."""
    masks = torch.from_numpy(blocks(count, side)[1])
    return masks[:, None].float(), masks


@pytest.mark.parametrize("size", [12, 24, 40])
def test_crops_flips_and_turns_keep_a_block_and_its_mask_together(size: int) -> None:
    tiles, masks = clean(32, 24)
    settings = HandcraftedSettings(crop=(0.2, 1.0), flip=0.5, vertical_flip=0.5, turn=1.0)
    rng = Randomness(0, "supervised", 3, torch.arange(32))
    move = partial(paired, steps=GEOMETRY, settings=settings, size=size, rgb=False, rng=rng)
    views, moved = moved_together(tiles, masks, 2, move)
    assert torch.equal(views, move(tiles))  # the tiles are moved as without masks
    assert moved.shape == (32, size, size)
    assert torch.equal(moved, (views[:, 0] > 0.5).to(torch.uint8))
    assert len({float(mask.float().mean()) for mask in moved}) > 10  # they were cropped


def test_pixels_without_a_class_stay_so_and_others_do_not_become_so() -> None:
    tiles, masks = clean(8, 24)
    masks[:, :12] = 255
    move = lambda pixels: pixels.flip(2)  # noqa: E731
    views, moved = moved_together(tiles, masks, 2, move)
    assert torch.equal(moved, masks.flip(1))
    assert torch.equal(views, tiles.flip(2))
    halved = partial(torch.nn.functional.interpolate, scale_factor=0.5, mode="area")
    small = moved_together(tiles, masks, 2, halved)[1]
    assert (small[:, :6] == 255).all()
    assert (small[:, 6:] < 2).all()

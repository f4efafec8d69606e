"""Grids of tiles with any number of bands, and the PNGs they become."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import make_grid

from gcl_custom.pictures import Quicklook, class_colours, grid, save_picture


def plain(bands: list[int]) -> Quicklook:
    return Quicklook(bands, [0.0] * len(bands), [1.0] * len(bands))


@pytest.mark.parametrize(
    ("bands", "shown"), [([0], [0, 0, 0]), ([3], [3, 3, 3]), ([0, 1, 2], [0, 1, 2]), ([4, 0, 3], [4, 0, 3])]
)
def test_a_row_for_each_batch_in_three_bands_or_one_in_grey(bands: list[int], shown: list[int]) -> None:
    rows = [torch.rand(4, 5, 6, 6) for _ in range(2)]
    picture = grid(rows, plain(bands))
    assert picture.shape == (3, 2 * 8 + 2, 4 * 8 + 2)
    assert torch.equal(picture[:, 10:16, 26:32], rows[1][3][shown])
    assert (picture[:, :2] == 1).all(), "white between the tiles"


@pytest.mark.parametrize("last", [1, 3, 4])
def test_a_grid_is_that_of_torchvision(last: int) -> None:
    """Ours, since torchvision takes more than a second to import."""
    rows = [torch.rand(4, 3, 6, 5), torch.rand(last, 3, 6, 5)]
    assert torch.equal(grid(rows), make_grid(torch.cat(rows), nrow=4, padding=2, pad_value=1.0))


def test_each_band_is_stretched_and_values_beyond_are_cut_off() -> None:
    tiles = torch.tensor([0.1, 0.2, 0.3, 0.6]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    shown = Quicklook([0, 1, 2], [0.2, 0.0, 0.2], [0.4, 1.0, 0.6]).of(tiles)
    wanted = torch.tensor([[0, 0, 0.5, 1], [0.1, 0.2, 0.3, 0.6], [0, 0, 0.25, 1]])
    torch.testing.assert_close(shown.reshape(3, 4), wanted)
    assert grid([torch.full((1, 3, 2, 2), 7.0)], plain([0, 1, 2])).max() == 1


def test_a_picture_is_written_as_it_is_rounded_to_bytes(tmp_path: Path) -> None:
    picture = torch.rand(3, 5, 7)
    save_picture(tmp_path / "a.png", picture)
    found = np.asarray(Image.open(tmp_path / "a.png"))
    assert np.array_equal(found, (picture * 255).round().byte().permute(1, 2, 0).numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_each_class_has_a_colour_of_its_own() -> None:
    colours = class_colours(12)
    assert colours.shape == (12, 3)
    assert len({tuple(colour) for colour in colours.tolist()}) == 12
    assert torch.equal(class_colours(3), colours[:3])
    assert class_colours(300).shape == (300, 3)

import pytest
import torch

from gcl_custom.imagery.tile_rows import TileRows


def test_each_tile_has_the_row_of_its_place_in_the_list() -> None:
    rows = TileRows(torch.tensor([7, 2, 4]), "only a few")
    assert rows.of(torch.tensor([4, 7, 7, 2])).tolist() == [2, 0, 0, 1]
    with pytest.raises(AssertionError, match="only a few"):
        rows.of(torch.tensor([4, 3]))

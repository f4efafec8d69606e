import io
from pathlib import Path

import numpy as np
import pytest
from complete_runs import made
from PIL import Image
from small_images import class_folders
from written_index import read_lists, write_lists

from gcl_custom.imagery import pack_tiles
from gcl_custom.reporting import split_map
from gcl_custom.runs import plan


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def counted(picture: bytes, colour: str) -> int:
    """Pixels of about a colour, mixed with white as the marks are."""
    wanted = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])
    mixed = 0.8 * wanted + 0.2 * 255
    return int((np.abs(pixels(picture) - mixed).max(axis=2) < 4).sum())


def test_each_split_is_on_the_map_in_its_colour() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(-1, 1, (60, 2)) + np.array([10, 50])
    split = np.repeat([0, 1, 2], 20)
    whole = split_map.drawn(places, split)
    for code, (name, (colour, _)) in enumerate(split_map.LOOKS.items()):
        assert counted(whole, colour) > 40, name
        without = places.copy()
        without[split == code] = np.nan
        assert counted(split_map.drawn(without, split), colour) < counted(whole, colour) / 2
    assert split_map.drawn(places, split) == whole, "the same bytes"


def test_marks_of_few_tiles_are_larger() -> None:
    """Marks of 64 tiles were dots of two pixels. Of many tiles, they would lie on one another."""
    colour = split_map.LOOKS["train"][0]

    def of_each(side: int) -> float:
        axis = np.linspace(0, 1, side)
        places = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        return counted(split_map.drawn(places, np.zeros(len(places), int)), colour) / len(places)

    assert of_each(8) > 3 * of_each(30) > 0


@pytest.mark.parametrize("places", [[[10.0, 50.0]], [[-180.0, -90.0], [180.0, 90.0]], [[1.0, 2.0], [1.0, 9.0]]])
def test_any_places_have_a_map(places: list[list[float]]) -> None:
    picture = pixels(split_map.drawn(np.array(places), np.array([0, 2][: len(places)])))
    assert 0.4 < picture.shape[0] / picture.shape[1] < 1.6


def test_the_report_says_the_split_and_draws_it_where_places_are_known(tmp_path: Path) -> None:
    run = made(tmp_path, data={"root": str(class_folders(tmp_path / "root")), "size": 16})
    assert split_map.section(run) == "", "nothing is packed"
    pack_tiles.pack_tiles(run)
    tiles = plan.tiles(run).path
    about = read_lists(tiles)
    about.pop("places", None)
    write_lists(tiles, about)
    assert "divided at random" in split_map.section(run)
    assert "<img" not in split_map.section(run)
    write_lists(tiles, about | {"places": [[10 + number / 100, 50.0] for number in range(len(about["files"]))]})
    section = split_map.section(run)
    assert "<img" in section
    assert "of a training tile; the median distance is" in section
    split_map.save(np.array([[1.0, 2.0]]), np.array([0]), tmp_path / "map.png")
    assert pixels((tmp_path / "map.png").read_bytes()).size

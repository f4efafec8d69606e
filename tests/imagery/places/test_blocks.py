import numpy as np

from gcl_custom.imagery.places.blocks import LEAST_BLOCKS, MOST_IN_ONE, by_name, in_scenes, length, on_ground


def test_a_given_side_is_taken_and_tiles_without_a_place_are_in_no_block() -> None:
    places = np.array([[0.0, 0.001], [0.0, 0.002], [0.0, 3.0], [np.nan, np.nan]])
    found = on_ground(places, 50.0, None)
    assert found.of.tolist() == [0, 0, 1, -1]
    assert (found.what, found.sizes.tolist(), found.largest) == ("blocks of 50 km", [2, 1], 0.5)
    assert on_ground(places, None, 5.0).of.tolist() == [0, 0, 0, -1]
    assert on_ground(places, None, 0.5).what == "blocks of 0.5 degrees"


def test_the_longest_side_that_leaves_enough_blocks() -> None:
    """A field of 100 x 100 km has a hundred blocks of 10 km, and at most 36 of 20 km; of 50 km it has too few."""
    rng = np.random.default_rng(0)
    found = on_ground(rng.uniform(0, 100 / 111.195, (5000, 2)), None, None)
    assert found.what == "blocks of 20 km"
    assert len(found.names) >= LEAST_BLOCKS
    assert found.largest <= MOST_IN_ONE


def test_tiles_of_a_field_of_ten_metres_have_blocks_of_metres() -> None:
    rng = np.random.default_rng(0)
    found = on_ground(10 + rng.uniform(0, 0.01 / 111.195, (500, 2)), None, None)
    assert found.what == "blocks of 2 m"
    assert (length(0.002), length(3.0), length(0.25)) == ("2 m", "3 km", "250 m")


def test_blocks_of_scenes_are_squares_of_windows_of_one_scene() -> None:
    rows, columns = np.meshgrid(np.arange(12), np.arange(12), indexing="ij")
    centres = np.column_stack([rows.ravel(), columns.ravel()]) * 64 + 32
    found = in_scenes(np.repeat([0, 1], 144), np.concatenate([centres, centres]), 64.0)
    assert found.what == "blocks of 192 px of a scene"
    assert found.sizes.tolist() == [9] * 32
    assert not set(found.of[:144]) & set(found.of[144:])


def test_groups_by_name() -> None:
    found = by_name(["b", "a", "b"], "scene")
    assert (found.of.tolist(), found.names, found.what) == ([1, 0, 1], ["a", "b"], "scene")

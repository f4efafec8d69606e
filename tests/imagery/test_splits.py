import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.imagery.folders import FoundTile, layout_of
from gcl_custom.imagery.mask_files import labels_of
from gcl_custom.imagery.places.coordinates import known
from gcl_custom.imagery.places.nearness import Nearness, nearness
from gcl_custom.imagery.places.on_ground import nearest_km
from gcl_custom.imagery.places.shared_ground import Footprints
from gcl_custom.imagery.source import Source, Window
from gcl_custom.imagery.splits import (
    Division,
    apart,
    divide,
    in_words,
    listed,
    of_alike,
    of_twins,
    places_of,
    random_split,
    twins,
)
from gcl_custom.imagery.tile_store import SPLITS
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.recipe.imagery import DataSettings, SplitSettings


def tiles(*counts: int) -> tuple[list[Source], Tensor]:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return [Source(f"class{label}/{number}.jpg") for number, label in enumerate(labels.tolist())], labels


def test_shares_hold_in_every_class() -> None:
    sources, labels = tiles(100, 40, 7, 3, 2, 1)
    split = random_split(sources, labels, SplitSettings())
    counts = [torch.bincount(split[labels == label], minlength=3).tolist() for label in range(6)]
    assert counts == [[70, 15, 15], [28, 6, 6], [5, 1, 1], [1, 1, 1], [2, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("total", range(1, 60))
@pytest.mark.parametrize("shares", [(0.7, 0.15, 0.15), (0.01, 0.98, 0.01), (0.98, 0.01, 0.01), (1 / 3, 1 / 3, 1 / 3)])
def test_counts_sum_up_and_stay_near_the_shares(total: int, shares: tuple[float, float, float]) -> None:
    sources, labels = tiles(total)
    counts = torch.bincount(
        random_split(sources, labels, SplitSettings(train=shares[0], valid=shares[1], test=shares[2])), minlength=3
    )
    assert counts.sum() == total
    assert counts[0] >= 1
    if total >= 3:
        assert counts.min() >= 1
        assert all(
            abs(count - total * share) < 2 or count == 1 for count, share in zip(counts.tolist(), shares, strict=True)
        )


def test_the_split_does_not_depend_on_the_order_of_the_tiles() -> None:
    sources, labels = tiles(50, 30)
    split = dict(zip(sources, random_split(sources, labels, SplitSettings()).tolist(), strict=True))
    order = list(range(80))
    random.Random(0).shuffle(order)
    shuffled = random_split([sources[i] for i in order], labels[order], SplitSettings())
    assert shuffled.tolist() == [split[sources[i]] for i in order]
    other = random_split(sources, labels, SplitSettings(seed=1)).tolist()
    assert other != list(split.values())


def test_a_new_tile_moves_few_others() -> None:
    sources, labels = tiles(200)
    before = random_split(sources, labels, SplitSettings())
    after = random_split([*sources, Source("class0/new.jpg")], torch.cat([labels, labels[:1]]), SplitSettings())[:-1]
    assert (before != after).sum() <= 2


def test_splits_that_folders_do_not_give_are_drawn_from_train() -> None:
    sources, labels = tiles(85, 17)
    split = random_split(sources, labels, SplitSettings(), among=["train", "valid"])
    assert torch.bincount(split[labels == 0]).tolist() == [70, 15]
    split = random_split(sources, labels, SplitSettings(), among=["train", "test"])
    assert torch.bincount(split[labels == 1], minlength=3).tolist() == [14, 0, 3]


def test_words_about_a_split_hold_back_nothing() -> None:
    assert "neighbouring tiles" in in_words({"split": "random", "duplicates_across_splits": 0})
    given = in_words({"split": "given by folders", "duplicates_across_splits": 7})
    assert "neighbouring tiles" not in given
    assert given.endswith("in more than one split: 7.")


def test_twins_are_alike_and_in_different_splits() -> None:
    sources = [Source(f"{number}.png") for number in range(6)]
    found = twins(sources, ["x", "y", "x", "y", "z", "x"], [1, 0, 0, 0, 2, 1])
    assert found == [[sources[2], sources[0], sources[5]]]
    assert of_twins(found).startswith(
        "3 tiles are copies of one another in different splits, such as 2.png and 5.png: scores"
    )
    assert twins(sources, list("abcdef"), [0, 1, 2, 0, 1, 2]) == []


def test_names_that_are_not_utf8_are_divided_as_well() -> None:
    sources = [Source(f"caf\udce9{number}.png") for number in range(10)]
    assert random_split(sources, torch.zeros(10, dtype=torch.int64), SplitSettings()).bincount().tolist() == [7, 2, 1]


# ---------------------------------------------------------------- whole groups at a time


def found(paths: list[str], classes: int = 2) -> list[FoundTile]:
    return [FoundTile(Source(path), None, str(number % classes)) for number, path in enumerate(paths)]


def divided(tiles: list[FoundTile], places: np.ndarray | None = None, **split: Any) -> Division:
    _, labels = labels_of(tiles, sorted({tile.label for tile in tiles if tile.label}), SINGLE_LABEL)
    data = DataSettings(root="root", split=SplitSettings(**split))
    return divide(tiles, labels, SINGLE_LABEL, data, places_of(tiles, {}) if places is None else places)


def towns(each: int = 10, count: int = 40) -> list[str]:
    """Files around towns that are far from each other."""
    rng = random.Random(0)
    centres = [(rng.uniform(-90, 90), rng.uniform(-60, 60)) for _ in range(count)]
    places = [(e + rng.uniform(0, 0.01), n + rng.uniform(0, 0.01)) for e, n in centres for _ in range(each)]
    return [f"{e:.5f},{n:.5f}.jpg" for e, n in places]


def close(count: int) -> list[str]:
    """Files within a hundred metres."""
    return [f"10.{number:05d},50.00100.jpg" for number in range(count)]


def test_blocks_on_the_ground_keep_neighbours_together() -> None:
    tiles = found(towns())
    by_chance, by_blocks = divided(tiles), divided(tiles, by="blocks", block_km=50.0)
    assert (by_chance.how, by_chance.blocks, by_chance.groups) == ("random", None, {})
    assert by_blocks.how == "by blocks of 50 km"
    assert by_blocks.blocks is not None
    for block in by_blocks.blocks.unique():
        assert len(by_blocks.split[by_blocks.blocks == block].unique()) == 1
    assert torch.bincount(by_blocks.split).tolist() == pytest.approx([280, 60, 60], abs=20)
    assert sum(by_blocks.groups.values()) == len(by_blocks.blocks.unique())
    places = places_of(tiles, {})
    near, far = (nearness(places, each.split.numpy(), 5.0) for each in (by_chance, by_blocks))
    assert near is not None
    assert far is not None
    assert near.within > 0.99
    assert far.within < 0.2, "but for towns that a border cuts"
    again = divided(tiles[::-1], by="blocks", block_km=50.0)
    assert again.split.tolist() == by_blocks.split.tolist()[::-1]
    assert divided(tiles, by="blocks", block_km=50.0, seed=1).split.tolist() != by_blocks.split.tolist()


def test_the_random_split_is_what_it_was() -> None:
    """Of ten files, by the digests of their paths; asked for or not."""
    tiles = found([f"{number}.jpg" for number in range(10)], classes=1)
    for way in (None, "random"):
        assert divided(tiles, by=way).split.tolist() == [0, 1, 2, 0, 0, 0, 0, 1, 0, 0]


def windows(scenes: dict[str, int], side: int = 16) -> list[FoundTile]:
    """Scenes of so many windows along each side."""
    return [
        FoundTile(Source(path, Window(column * side, row * side, side, side)), None, str(column % 2))
        for path, count in scenes.items()
        for column in range(count)
        for row in range(count)
    ]


def test_windows_are_never_divided_one_by_one_unless_that_is_asked_for() -> None:
    scenes = divided(windows({"a.tif": 6, "b.tif": 6, "c.tif": 6, "d.tif": 4}))
    assert (scenes.how, scenes.groups) == ("by scene", {"train": 2, "valid": 1, "test": 1})
    one = divided(windows({"a.tif": 12}))
    assert one.how == "by blocks of 32 px of a scene"
    assert one.blocks is not None
    assert torch.bincount(one.blocks).tolist() == [4] * 36
    assert divided(windows({"a.tif": 6, "b.tif": 6})).how == "by blocks of 32 px of a scene"
    lone = divided(windows({"a.tif": 20, "b.tif": 2, "c.tif": 2}))
    assert lone.how == "by blocks of 64 px of a scene", "one scene holds nearly everything"
    assert divided(windows({"a.tif": 12}), by="random").how == "random"


def test_windows_with_places_are_divided_on_the_ground() -> None:
    tiles = windows({"a.tif": 12})
    places = np.array([(10 + w.column / 1e4, 50 + w.row / 1e4) for tile in tiles if (w := tile.source.window)])
    assert divided(tiles, places).how == "by blocks of 200 m"


def test_tiles_without_a_place_are_for_training_and_counted() -> None:
    tiles = found(towns())
    places = places_of(tiles, {})
    places[::20] = np.nan
    division = divided(tiles, places, by="blocks", block_km=50.0)
    assert (division.split[::20] == 0).all()
    assert division.blocks is not None
    assert (division.blocks[::20] == -1).all()
    assert division.notes[0] == "tiles without a known place, so in no block, and used for training: 20 of 400"


def test_places_that_files_state_count_more_than_those_in_names() -> None:
    tiles = found(["1.5,2.5.tif", "3.5,4.5.tif"])
    assert places_of(tiles, {tiles[1].source: (7.0, 8.0)}).tolist() == [[1.5, 2.5], [7.0, 8.0]]


@pytest.mark.parametrize(
    ("split", "paths", "message"),
    [
        ({"by": "blocks"}, ["a.jpg", "b.jpg", "c.jpg"], "no file of root has coordinates"),
        ({"by": "scene"}, ["a.jpg", "b.jpg", "c.jpg"], "no file of root is cut into windows"),
        ({"by": "folders"}, ["a.jpg", "b.jpg", "c.jpg"], "neither folders, a card nor a table"),
        ({"by": "blocks", "block_km": 5000.0}, towns()[:10], "10 tiles are in 1 of them, and the largest holds 100%"),
        ({"by": "blocks", "block_km": 5.0}, ["60.5,7.1.jpg", "1.5,2.5.jpg", *close(38)], "the largest holds 95%"),
    ],
)
def test_a_division_that_cannot_be_says_why(split: dict[str, Any], paths: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        divided(found(paths, classes=1), **split)


def test_whole_groups_that_miss_the_shares_are_told() -> None:
    division = divided(found([*close(82), *towns(1, 18)]), by="blocks", block_km=100.0)
    assert any("of the tiles in place of 15%: groups are divided whole" in note for note in division.notes)


def test_words_about_blocks_and_scenes_and_places() -> None:
    facts = {"split": "by blocks of 10 km", "groups": {"train": 30, "valid": 5, "test": 6}}
    near = Nearness(40, 3.25, 0.125, 1.0)
    assert in_words(facts, near) == (
        "The tiles were divided by blocks of 10 km, whole blocks at a time (30 train, 5 valid, 6 test); tiles on both "
        "sides of a border may still be neighbours. Of 40 test tiles 12% lie within 1 km of a training tile; the "
        "median distance is 3.2 km."
    )
    assert "whole scenes at a time" in in_words({"split": "by scene", "groups": {"train": 3}})
    assert in_words({"split": "given by lists"}).startswith("The split is the one that the lists give; how far apart")
    assert "not known" not in in_words({"split": "given by folders"}, near)
    assert in_words({"split": "random", "near_duplicates_across_splits": 4}).endswith("in more than one split: 4.")


def test_near_duplicates_are_named_and_listed() -> None:
    pair = (Source("a.png"), Source("b.png"))
    assert of_alike([pair, (Source("a.png"), Source("c.png"))]).startswith("3 tiles show nearly the same picture")
    assert listed([[Source("x.png"), Source("y.png")]], [pair]) == (
        "same content\tx.png\ty.png\nnearly the same picture\ta.png\tb.png\n"
    )


def test_wildfire_by_its_names(real_data: Path) -> None:
    """Its splits are drawn at random, so four of ten test tiles have a training tile within a kilometre."""
    data = DataSettings(root=str(real_data / "wildfire"))
    given = layout_of(data, None)
    places = places_of(given.tiles, {})
    assert known(places).all()
    split = np.array([SPLITS.index(tile.split) for tile in given.tiles if tile.split])
    near = nearness(places, split, 1.0)
    assert near is not None
    assert 0.3 < near.within < 0.6
    anew = layout_of(data.model_copy(update={"split": SplitSettings(by="blocks")}), None)
    assert {tile.split for tile in anew.tiles} == {None}
    division = divided(list(anew.tiles), places, by="blocks")
    assert division.how == "by blocks of 10 km"
    apart = nearness(places, division.split.numpy(), 1.0)
    assert apart is not None
    assert apart.within < 0.1


# ---------------------------------------------------------------- tiles beside another split


def test_no_two_tiles_of_different_splits_lie_within_the_buffer() -> None:
    """As the report measures distances; test tiles all stay, and so does all that is further away."""
    tiles = found(towns(each=3, count=300))
    places, data = places_of(tiles, {}), DataSettings(root="root", split=SplitSettings(buffer_km=300.0))
    before = divided(tiles)
    after, kept = apart(before, places, None, data)
    codes, at = after.split.numpy(), places[kept.numpy()]
    assert (codes == 2).sum() == (before.split == 2).sum()
    for code, others in ((0, (1, 2)), (1, (2,)), (0, (2,))):
        mine, theirs = at[codes == code], at[np.isin(codes, others)]
        assert nearest_km(mine, theirs).min() > 300
        gone = places[~kept.numpy() & (before.split.numpy() == code)]
        all_others = places[np.isin(before.split.numpy(), (1, 2) if code == 0 else (2,))]
        assert nearest_km(gone, all_others).max() <= 300
    sentence = "tiles left out, as their centres lie within 300 km of those of another split (data.split.buffer_km): "
    assert after.notes[-1].startswith(sentence)


def test_overlapping_windows_of_different_splits_share_no_pixel() -> None:
    tiles = [
        FoundTile(Source("a.tif", Window(column, row, 16, 16)), None, None)
        for column in range(0, 400, 10) for row in range(0, 400, 10)
    ]  # fmt: skip
    division = divided(tiles)
    rectangles = np.array([tile.source.window for tile in tiles])
    ground = Footprints(np.zeros(len(tiles), dtype=int), rectangles, np.full((len(tiles), 4, 2), np.nan))
    after, kept = apart(division, places_of(tiles, {}), ground, DataSettings(root="root"))
    covered = np.zeros((3, 420, 420), dtype=bool)
    for (column, row, width, height), code in zip(rectangles[kept.numpy()], after.split.tolist(), strict=True):
        covered[code, row : row + height, column : column + width] = True
    assert covered.sum(axis=0).max() == 1
    assert covered.any(axis=(1, 2)).all()
    assert 0.5 < float(kept.float().mean()) < 1
    assert after.blocks is not None
    assert len(after.blocks) == int(kept.sum())
    none = DataSettings(root="root", split=SplitSettings(buffer_km=None))
    assert apart(division, places_of(tiles, {}), ground, none)[1].all()


def test_a_buffer_that_leaves_nothing_or_cannot_be_measured_says_so() -> None:
    tiles = found(close(40))
    data = DataSettings(root="root", split=SplitSettings(buffer_km=5.0))
    with pytest.raises(UserError, match=r"28 of 28 train.*None is left for the train and the valid split"):
        apart(divided(tiles), places_of(tiles, {}), None, data)
    nowhere = found([f"{number}.jpg" for number in range(30)])
    with pytest.raises(UserError, match=r"buffer_km is 5, but no file of root has coordinates"):
        apart(divided(nowhere), places_of(nowhere, {}), None, data)

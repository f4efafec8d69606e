import pytest

from gcl_custom.imagery.left_out import excess, in_kinds, left_out, remarks, without_a_tile
from gcl_custom.imagery.packing_journal import Record
from gcl_custom.imagery.source import Source, Window
from gcl_custom.recipe.imagery import CloudSettings, DataSettings, ScenesSettings

FILES = DataSettings(root="r")
SCENES = DataSettings(root="r", scenes=ScenesSettings(cloud=CloudSettings(band=1, values=[1])))


def windows(path: str, count: int) -> list[Source]:
    return [Source(path, Window(16 * number, 0, 16, 16)) for number in range(count)]


def test_each_reason_to_leave_something_out_has_its_count_and_its_key() -> None:
    kinds = ["nodata", "cloud", "sameness", "nodata", "damaged"]
    found = list(left_out(kinds, 1000, SCENES))
    assert [sentence.split()[0] for sentence in found] == ["2", "1", "1"]
    for sentence, key in zip(
        found, ("(data.nodata)", "(data.scenes.sameness)", "(data.scenes.cloud.most)"), strict=True
    ):
        assert "of 1,000 windows" in sentence
        assert sentence.endswith(key)
    assert list(left_out(["nodata"], 9, FILES)) == [
        "1 of 9 files is left out, as more than 50% of its pixels hold no data (data.nodata)"
    ]
    assert in_kinds(kinds) == "1 damaged"


def test_a_limit_below_one_percent_is_told_as_the_recipe_states_it() -> None:
    data = DataSettings(root="r", bad_files=0.002, nodata=0.125, nodata_files=0.004)
    bad = [(Source("a.png"), "damaged"), (Source("b.png"), "nodata"), (Source("c.png"), "nodata")]
    unread, empty = excess(bad, [Source("a.png")] * 300, data)
    assert unread.endswith("data.bad_files allows 0.2%")
    assert "more than 12.5% of their pixels" in empty
    assert empty.endswith("data.nodata_files allows 0.4%")


def test_what_windows_show_otherwise_is_counted_in_windows() -> None:
    tile = Record(Source("a.tif"), 0, 0, "", 0)
    tiles = [tile._replace(grey=True), tile._replace(alpha=True)]
    assert [sentence.partition(":")[0] for sentence in remarks(tiles, SCENES)] == [
        "1 greyscale window", "1 window has an alpha band",
    ]  # fmt: skip
    assert next(remarks(tiles, FILES)).startswith("1 greyscale file:")


def test_scenes_without_a_tile_are_named() -> None:
    sources = [*windows("a.tif", 2), *windows("b.tif", 2), Source("c.tif")]
    assert without_a_tile(sources, windows("a.tif", 1), SCENES) == "2 scenes without a tile: b.tif, c.tif"
    assert without_a_tile(sources, sources, SCENES) is None
    assert without_a_tile(sources, [], FILES) is None


@pytest.mark.parametrize(("bad", "stops"), [(1, False), (2, True)])
def test_scenes_that_cannot_be_cut_are_counted_among_scenes(bad: int, stops: bool) -> None:
    whole = [Source(f"bad{number}.tif") for number in range(bad)]
    sources = [*windows("a.tif", 500), *windows("b.tif", 500), *windows("c.tif", 500), *whole]
    data = SCENES.model_copy(update={"bad_files": 0.3})
    found = list(excess([(source, "damaged") for source in whole], sources, data))
    assert found == (["2 of 5 scenes cannot be cut (2 damaged); data.bad_files allows 30%"] if stops else [])


def test_windows_that_cannot_be_read_are_counted_among_windows() -> None:
    sources = windows("a.tif", 10)
    found = list(excess([(source, "damaged") for source in sources[:2]], sources, SCENES))
    assert found == ["2 of 10 windows are unusable (2 damaged); data.bad_files allows 5%"]
    assert list(excess([(source, "cloud") for source in sources], sources, SCENES)) == []
    (sentence,) = excess([(source, "nodata") for source in sources[:6]], sources, SCENES)
    assert sentence.endswith("data.nodata_files allows 50%")

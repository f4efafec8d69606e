import json

import pytest

from gcl_custom.imagery.source import Source, Window

WINDOWS = [Window(0, 0, 64, 64), Window(0, 1024, 64, 64), Window(64, 0, 64, 32), Window(1000, 64, 64, 64)]


@pytest.mark.parametrize(
    "path",
    [
        "a.tif",
        "shard-000.tar/a.tif",
        "train.parquet/0000012",
        "north/a, b.tif",
        "a#1,2,3,4.tif",
        "a.tif#b/c.png",
        "0.jpg",
        "line\nbreak.png",
    ],
)
@pytest.mark.parametrize("window", [None, *WINDOWS])
def test_a_text_gives_its_source_back(path: str, window: Window | None) -> None:
    source = Source(path, window)
    assert Source.parse(str(source)) == source
    assert Source.parse(json.loads(json.dumps(f"{source}"))) == source


def test_the_text_of_a_whole_file_is_its_path() -> None:
    assert str(Source("north/a.tif")) == "north/a.tif"
    assert str(Source("north/a.tif", WINDOWS[2])) == "north/a.tif#0000064,0000000,0000064,0000032"


def test_texts_sort_by_path_column_and_row() -> None:
    texts = [str(Source(path, window)) for path in ("a.tif", "b.tif") for window in (None, *WINDOWS)]
    assert sorted(texts) == texts

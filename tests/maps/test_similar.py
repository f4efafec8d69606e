"""The tiles that are most alike: by cosine, of the run's own store, found by name or by place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from gcl_custom.errors import UserError
from gcl_custom.export.backbone_of_run import load_backbone
from gcl_custom.maps import similar
from gcl_custom.maps.representations import representations_of
from gcl_custom.maps.similar import most_alike, show_similar
from gcl_custom.runs.run import Run


def test_they_are_those_of_the_highest_cosine_without_the_tile_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "CHUNK", 7)
    x = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    x[20] = 3 * x[4]
    found, cosines = most_alike(x, 4, 5)
    like = cosine_similarity(x[4:5], x)[0]
    assert found == [tile for tile in np.argsort(-like) if tile != 4][:5]
    assert found[0] == 20
    np.testing.assert_allclose(cosines, like[found], rtol=1e-5)
    assert len(most_alike(x, 4, 100)[0]) == 49


def test_a_picture_and_a_list_begin_with_the_tile(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_similar(run, "lake/7.tif", tmp_path / "alike.png", count=8)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if ".tif" in line]
    assert lines[0][-2:] == ["lake", "lake/7.tif"]
    known = load_backbone(run, "gcl", None)
    names = [str(source) for source in known.store.sources]
    expected, cosines = most_alike(representations_of(known), names.index("lake/7.tif"), 8)
    assert [line[-1] for line in lines[1:]] == [names[tile] for tile in expected]
    assert [line[1] for line in lines[1:]] == [f"{cosine:.3f}" for cosine in cosines]
    assert {line[2] for line in lines[1:]} <= {"train", "valid", "test"}
    with Image.open(tmp_path / "alike.png") as picture:
        assert picture.size == (6 * 130 + 2, 2 * 130 + 2)
        pixels = np.asarray(picture)
    first = known.store.quicklook(run.recipe.data.quicklook).of(
        known.store.unit(known.store.read(torch.tensor([names.index("lake/7.tif")])))
    )
    np.testing.assert_allclose(pixels[2:130:4, 2:130:4] / 255, first[0].permute(1, 2, 0).numpy(), atol=0.51 / 255)


def test_a_place_means_the_tile_nearest_to_it(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tiles of one number lie at one place, whatever their class; the next number lies 1 km further east."""
    store = load_backbone(run, "gcl", None).store
    assert store.places is not None
    longitude, latitude = store.places[[str(source) for source in store.sources].index("lake/7.tif")]
    show_similar(run, f"{longitude + 0.002:.5f}, {latitude:.5f}", tmp_path / "near.png", count=2)
    said = " ".join(capsys.readouterr().out.split())
    assert "/7.tif is the tile nearest to" in said
    assert "its centre is 0.144 km away" in said
    with pytest.raises(
        UserError, match=r"the nearest tile, .*\.tif, is \d+,?\d* km away. The tiles lie between 15 and"
    ):
        show_similar(run, "9.99,53.55", tmp_path / "far.png")
    with pytest.raises(UserError, match="longitude comes first"):
        show_similar(run, "49.6,115.2", tmp_path / "far.png")


def test_what_names_no_tile_is_refused(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    with pytest.raises(UserError, match=r"no such tile\. There are: .*lake/7\.tif"):
        show_similar(run, "lake/7.tiff", out)
    with pytest.raises(UserError, match=r"let it end in \.png"):
        show_similar(run, "lake/7.tif", tmp_path / "a.jpg")
    out.write_bytes(b"mine")
    with pytest.raises(UserError, match="--overwrite"):
        show_similar(run, "lake/7.tif", out)
    assert out.read_bytes() == b"mine"


def test_tiles_without_places_say_what_to_give(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run: Run = make_run(tmp_path)
    with pytest.raises(UserError, match=r"not known where the run's tiles lie.*such as field/0\.png"):
        show_similar(run, "15,49.6", tmp_path / "a.png")

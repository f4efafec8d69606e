"""A file alone gives the network and the transform of its run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pages import python_holding
from small_images import tiff
from torch.nn.functional import cosine_similarity

import gcl_custom
from gcl_custom.errors import UserError
from gcl_custom.export import backbone_of_run, embed, export
from gcl_custom.runs.run import Run


@pytest.fixture(scope="module", params=["small", "standard"])
def run(request: pytest.FixtureRequest, make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A ResNet on four bands of uint16, whose values are scaled."""
    made: Run = make_run(tmp_path_factory.mktemp(request.param), "resnet10t", request.param, 4)
    return made


def test_the_file_gives_what_the_run_gives(run: Run, tmp_path: Path) -> None:
    known = backbone_of_run.load_backbone(run, "handcrafted", 4)
    files = sorted(Path(run.recipe.data.root).rglob("*.tif"))[:6]
    _, theirs = gcl_custom.load(*kept(run))
    expected = torch.stack([theirs(file) for file in files])
    export.export(run, "timm", tmp_path / "backbone.safetensors", "handcrafted", 4)
    given = [tmp_path / "backbone.safetensors", tmp_path]
    if not known.small_stem:
        export.export(run, "huggingface", tmp_path / "model", "handcrafted", 4)
        given.append(tmp_path / "model")
    for path in given:
        network, transform = gcl_custom.load(path)
        tiles = torch.stack([transform(file) for file in files])
        assert torch.equal(tiles, expected)
        with torch.inference_mode():
            same = cosine_similarity(network(tiles), known.network(tiles))
        torch.testing.assert_close(same, torch.ones(6), rtol=0, atol=1e-6)


def test_the_page_s_lines_without_gcl_custom_give_the_same(run: Run, tmp_path: Path) -> None:
    """Of a run with a small stem and scaled values, where timm's network of the same name gives others."""
    export.export(run, "timm", tmp_path / "backbone.safetensors")
    known = backbone_of_run.load_backbone(run, "gcl", None)
    lines = python_holding("use-it-elsewhere.md", "safe_open")
    names: dict[str, Any] = {}
    exec(lines.replace("runs/mine/pretrain/gcl-0", str(tmp_path)), names)
    raw = known.store.read(torch.arange(0, 96, 17))
    with torch.inference_mode():
        expected = known.network(known.store.unit(raw))
        found = names["backbone"](names["unit"](raw.float()))
        plain = timm.create_model("resnet10t", num_classes=0, in_chans=4).eval()
        plain.load_state_dict(names["weights"])
        otherwise = cosine_similarity(plain(names["unit"](raw.float())), expected)
    torch.testing.assert_close(cosine_similarity(found, expected), torch.ones(6), rtol=0, atol=1e-6)
    assert (otherwise.min() < 0.99) == known.small_stem


def kept(run: Run) -> tuple[Path]:
    with run.saved():
        return (run.path,)


def test_a_file_is_one_backbone(run: Run, tmp_path: Path) -> None:
    export.export(run, "timm", tmp_path / "backbone.safetensors")
    with pytest.raises(UserError, match="is one backbone: leave arm and seed out"):
        gcl_custom.load(tmp_path / "backbone.safetensors", seed=4)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "backbone.safetensors").read_bytes()[:100])
    with pytest.raises(UserError, match=r"cut\.safetensors cannot be read as safetensors"):
        gcl_custom.load(tmp_path / "cut.safetensors")


def test_a_file_knows_which_bands_of_float_rasters_to_take_and_what_is_no_data(
    make_run: Callable[..., Any], tmp_path: Path
) -> None:
    imagery = tmp_path / "floats"
    imagery.mkdir()
    for number in range(8):
        values = np.random.default_rng(number).uniform(-2, 3, (6, 32, 32)).astype(np.float32)
        values[:, :4, :9], values[1, 20, 20], values[3, 30, 5] = np.nan, np.inf, -9999
        tiff(imagery / f"{number}.tif", values, nodata=-9999)
    run = make_run(tmp_path, bands=4, root=str(imagery), use_bands=[5, 4, 2, 1])
    known = backbone_of_run.load_backbone(run, "gcl", None)
    export.export(run, "timm", tmp_path / "backbone.safetensors")
    network, transform = gcl_custom.load(tmp_path / "backbone.safetensors")
    expected = known.store.unit(known.store.read(torch.arange(8)))
    found = torch.stack([transform(imagery / source.path) for source in known.store.sources])
    assert torch.equal(found, expected)
    assert not found[:, :, :4, :9].any()
    assert not found[:, 2, 20, 20].any()
    assert not found[:, 1, 30, 5].any()
    with torch.inference_mode():
        same = cosine_similarity(network(found), known.network(expected))
    torch.testing.assert_close(same, torch.ones(8), rtol=0, atol=1e-6)
    assert "which are bands 5, 4, 2, 1 of the 6 in a file" in known.input
    table = embed.embedded(run, imagery)
    rows = np.stack(table["representation"].to_numpy(zero_copy_only=False))
    with torch.inference_mode():
        np.testing.assert_allclose(rows, known.network(expected).numpy(), rtol=1e-4, atol=1e-5)

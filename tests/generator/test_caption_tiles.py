"""The stage of captions: exact resumption, one caption a tile, and what is refused."""

import json
import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import tiny_models
import torch
from drawn_imagery import draw
from launched_processes import Two
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.generator import caption_tiles
from gcl_custom.generator.public.captions import Captioner, CaptionFile
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.generator import ImageToImageSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.views import ViewsSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("captions")
    draw(folder / "imagery", bands=3, each=6, size=16)
    return Recipe(
        name="r",
        data=DataSettings(root=str(folder / "imagery"), size=16),
        generator=ImageToImageSettings(
            name="diffusion", model="none", captions=str(tiny_models.save_blip(folder / "blip")), strength=0.2
        ),
        views=ViewsSettings(batch=4),
        hardware=HardwareSettings(accelerator="cpu", precision="fp32"),
    )


def work(folder: Path, settings: Recipe, killed_at: int | None) -> None:
    """Caption, and die while a block's lines are on their way to the disk."""
    torch.set_num_threads(1)
    append, written = CaptionFile.append, []

    def dying(file: CaptionFile, tiles: Tensor, captions: list[str]) -> None:
        append(file, tiles, captions)
        written.append(tiles)
        if len(written) == killed_at:
            os.truncate(file.path, file.path.stat().st_size - 5)
            os.kill(os.getpid(), signal.SIGKILL)

    CaptionFile.append = dying
    caption_tiles.caption_tiles(Run(folder, settings))


def test_a_killed_run_goes_on_to_the_same_file(settings: Recipe, tmp_path: Path) -> None:
    for name, kills in (("whole", (None,)), ("killed", (1, 2, None))):
        pack_tiles.pack_tiles(Run(tmp_path / name, settings))
        for killed_at in kills:
            process = multiprocessing.get_context("fork").Process(
                target=work, args=(tmp_path / name, settings, killed_at)
            )
            process.start()
            process.join()
            assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    whole, killed = (plan.captions(Run(tmp_path / name, settings)) for name in ("whole", "killed"))
    assert (whole.path / plan.CAPTIONS).read_bytes() == (killed.path / plan.CAPTIONS).read_bytes()
    assert whole.facts == killed.facts


def test_two_processes_write_the_file_of_one(settings: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = settings.hardware.model_copy(update={"nodes": 2})
    one, two = (
        Run(tmp_path / name, settings.model_copy(update={"hardware": each}))
        for name, each in (("one", settings.hardware), ("two", hardware))
    )
    for run in (one, two):
        pack_tiles.pack_tiles(run)
    caption_tiles.caption_tiles(one)
    make = Captioner.captions

    def noted(captioner: Captioner, tiles: Tensor) -> list[str]:
        (tmp_path / f"by-{os.getpid()}").touch()
        return make(captioner, tiles)

    monkeypatch.setattr(Captioner, "captions", noted)
    done = Two(partial(caption_tiles.caption_tiles, two), folder=tmp_path)
    assert (done.codes(), done.error) == ([0, 0], "")
    files = [(plan.captions(run).path / plan.CAPTIONS).read_bytes() for run in (one, two)]
    assert files[0] == files[1]
    assert len(list(tmp_path.glob("by-*"))) == 2


def test_training_and_validation_tiles_have_their_own_captions(
    settings: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path / "r", settings)
    pack_tiles.pack_tiles(run)
    caption_tiles.caption_tiles(run)
    store = TileStore(plan.tiles(run).path)
    lines = [json.loads(line) for line in (plan.captions(run).path / plan.CAPTIONS).read_text("utf-8").splitlines()]
    tiles = torch.cat([store.index("train"), store.index("valid")]).sort().values
    assert [line["tile"] for line in lines] == tiles.tolist()
    captioner = Captioner(str(run.recipe.generator.captions), "here", bands=3, device=torch.device("cpu"))
    expected = captioner.captions(store.unit(store.read(tiles)))
    assert [line["caption"] for line in lines] == expected
    distinct = len(set(expected))
    assert distinct > 1
    assert plan.captions(run).facts == {"tiles": len(tiles), "distinct": distinct}
    assert (
        f"captions: {distinct} different ones of {len(tiles)} tiles, such as {expected[0]};" in capsys.readouterr().out
    )
    caption_tiles.caption_tiles(run)
    assert "captions: done before" in capsys.readouterr().out


def test_a_model_that_is_not_there_is_named(settings: Recipe, tmp_path: Path) -> None:
    generator = settings.generator.model_copy(update={"captions": str(tmp_path / "none")})
    run = Run(tmp_path / "r", settings.model_copy(update={"generator": generator}))
    pack_tiles.pack_tiles(run)
    with pytest.raises(UserError, match=r"^generator\.captions: .*none is no folder"):
        caption_tiles.caption_tiles(run)

"""What weights hold: known by their bytes wherever they lie, read once, and remembered when they are gone."""

import os
from pathlib import Path

import pytest

from gcl_custom.errors import UserError
from gcl_custom.files import read_json
from gcl_custom.recipe.generator import IcGanSettings, ImageToImageSettings, TokenGeneratorSettings, TokenizerSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.weights import digests as module
from gcl_custom.weights.digests import contents, require, sha256
from gcl_custom.weights.needed import needed


def own(weights: Path | str) -> Recipe:
    generator = TokenGeneratorSettings(tokenizer=TokenizerSettings(weights=str(weights)))
    return Recipe(name="r", data=DataSettings(root="tiles"), generator=generator)


def gan(weights: Path) -> Recipe:
    generator = IcGanSettings(name="icgan", weights=str(weights), encoder=str(weights), inversion_steps=1)
    return Recipe(name="r", data=DataSettings(root="tiles"), generator=generator)


def diffusion(model: Path | str) -> Recipe:
    generator = ImageToImageSettings(name="diffusion", model=str(model), captions=None)
    return Recipe(name="r", data=DataSettings(root="tiles"), generator=generator)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose bytes were read."""
    names = list[str]()

    def noted(path: Path) -> str:
        names.append(path.name)
        return sha256(path)

    monkeypatch.setattr(module, "sha256", noted)
    return names


def test_the_digest_has_the_known_answer(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    found, _ = contents(own(tmp_path / "abc"), {})
    assert found == {"generator.tokenizer.weights": "abc, SHA-256 ba7816bf8f01cfea"}


def test_a_file_is_read_once_and_again_where_it_may_have_changed(tmp_path: Path, read: list[str]) -> None:
    path = tmp_path / "w.tar"
    path.write_bytes(b"one")
    first, known = contents(own(path), {})
    module._digest.cache_clear()  # as in another process
    assert contents(own(path), known) == (first, known)
    assert read == ["w.tar"]
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    same, later = contents(own(path), known)
    assert (same, read) == (first, ["w.tar", "w.tar"])
    assert later != known
    path.write_bytes(b"two")  # as many bytes
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 2))
    assert contents(own(path), later)[0] != first


def test_a_file_that_was_moved_is_the_same_and_one_that_is_gone_is_remembered(tmp_path: Path) -> None:
    path, moved = tmp_path / "w.tar", tmp_path / "elsewhere" / "w.tar"
    path.write_bytes(b"one")
    first, known = contents(own(path), {})
    moved.parent.mkdir()
    path.rename(moved)
    assert contents(own(moved), {})[0] == first
    assert contents(own(path), known) == (first, known)
    assert contents(own(path), {})[0] == {"generator.tokenizer.weights": "w.tar, which is not there"}
    with pytest.raises(UserError, match=r"^generator\.tokenizer\.weights: there are no weights at .*w\.tar"):
        require(*needed(own(path)))
    require(*needed(own(moved)))


def test_a_folder_is_all_that_is_read_of_it(tmp_path: Path) -> None:
    model = tmp_path / "turbo"
    for name in ("unet/a.safetensors", "unet/config.json", "tokenizer/merges.txt", ".cache/state.json", "README.md"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(name)
    first = contents(diffusion(model), {})[0]
    assert list(first) == ["generator.model"]
    assert first["generator.model"].startswith("turbo, SHA-256 ")
    for name in (".cache/state.json", "README.md", "unet/a.bin"):
        (model / name).write_text("another")
        assert contents(diffusion(model), {})[0] == first
    for name in ("unet/a.safetensors", "unet/config.json", "tokenizer/merges.txt"):
        (model / name).write_text("another")
        assert contents(diffusion(model), {})[0] != first
        (model / name).write_text(name)
        assert contents(diffusion(model), {})[0] == first
    (model / "unet" / "config.json").rename(model / "config.json")
    assert contents(diffusion(model), {})[0] != first
    assert contents(diffusion(tmp_path / "none"), {})[0] == {"generator.model": "none, which is not there"}
    with pytest.raises(UserError, match=r"^generator\.model: .*none is no folder"):
        require(*needed(diffusion(tmp_path / "none")))


def test_a_run_remembers_in_its_folder_once_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "w.tar").write_bytes(b"abc")
    run = Run(tmp_path / "r", own(tmp_path / "w.tar"))
    first = run.contents
    assert not run.path.exists()
    run.path.mkdir()
    assert run.contents == first
    assert read_json(run.path / "weights.json")[str(tmp_path / "w.tar")]["sha256"].startswith("ba7816bf")
    (tmp_path / "w.tar").unlink()
    assert run.contents == first
    assert Run(tmp_path / "other", run.recipe).contents != first


def test_a_stage_that_begins_needs_the_weights_that_it_reads_and_a_finished_one_none(tmp_path: Path) -> None:
    (tmp_path / "w.tar").write_bytes(b"abc")
    run = Run(tmp_path / "r", gan(tmp_path / "w.tar"))
    run.path.mkdir()
    for stage in (plan.tiles(run), plan.latents(run)):
        stage.begin()
        stage.finish()
    (tmp_path / "w.tar").unlink()
    assert plan.latents(run).done
    assert plan.latents(Run(run.path, run.recipe)).done
    plan.tiles(run).begin()
    for stage in (plan.reconstructions(run), plan.latents(Run(tmp_path / "r", gan(tmp_path / "other.tar")))):
        with pytest.raises(UserError, match=r"^generator\.weights, generator\.encoder: there are no weights at "):
            stage.begin()
        assert not (stage.path / "working.json").exists()

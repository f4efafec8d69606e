"""The stage of views: what it writes is what the generator gives, and a killed run ends with the same bytes."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from test_fit_maskgit import RECIPE, with_tokenizer
from test_views import tile_store

from gcl_custom import make_views, plan, views
from gcl_custom.errors import UserError
from gcl_custom.generator.maskgit import MaskGIT
from gcl_custom.imagery import TileStore
from gcl_custom.randomness import Randomness
from gcl_custom.runs import Run
from gcl_custom.training import save_weights
from gcl_custom.views import ViewStore

SETTINGS = RECIPE.model_copy(update={"views": RECIPE.views.model_copy(update={"batch": 4, "per_tile": 2})})


def with_generator(folder: Path) -> Run:
    with_tokenizer(folder)
    run = Run(folder, SETTINGS)
    stage = plan.maskgit(run)
    stage.begin()
    torch.manual_seed(1)
    save_weights(stage.path / "maskgit.safetensors", MaskGIT(8, 4, SETTINGS.generator.maskgit))
    stage.finish()
    return run


def test_views_are_what_the_generator_gives(tmp_path: Path) -> None:
    run = with_generator(tmp_path / "r")
    make_views.run(run)
    store, made = TileStore(plan.tiles(run).path), ViewStore(plan.views(run).path)
    generator = make_views.load_generator(run, store)
    tiles = store.index("train")
    tokens = generator.encode(store.unit(store.read(tiles)))
    changed = []
    for which in range(2):
        painted = generator.augment(tokens, Randomness(0, "views", which, tiles))
        read = made.read(tiles, torch.full_like(tiles, which))
        assert torch.equal(read, store.raw(generator.decode(painted)))
        changed.append((painted != tokens).float().mean().item())
    facts = plan.views(run).facts
    assert facts["changed_tokens"] == pytest.approx(sum(changed) / 2)
    assert 0 < facts["changed_tokens"] < 0.5
    assert facts["views_per_second"] > 0
    assert facts["measured_tiles"] == len(tiles)
    assert (plan.views(run).path / "views.png").is_file()
    assert not torch.equal(made.read(tiles, torch.zeros_like(tiles)), made.read(tiles, torch.ones_like(tiles)))


def test_reconstructions_are_encoded_and_decoded_tiles(tmp_path: Path) -> None:
    run = with_generator(tmp_path / "r")
    make_views.run_reconstructions(run)
    store, made = TileStore(plan.tiles(run).path), ViewStore(plan.reconstructions(run).path)
    generator, tiles = make_views.load_generator(run, store), store.index("train")
    expected = store.raw(generator.decode(generator.encode(store.unit(store.read(tiles)))))
    assert made.per_tile == 1
    assert torch.equal(made.read(tiles, torch.zeros_like(tiles)), expected)


def work(folder: Path, killed_at: int | None) -> None:
    torch.set_num_threads(1)
    written, write = [], views.write_json

    def dying(path: Path, value: object) -> None:
        written.append(path)
        if len(written) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, value)

    views.write_json = dying
    make_views.run(Run(folder, SETTINGS))


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Killed twice, each time after a block's pixels were written but before that was noted down."""
    for name, kills in (("whole", (None,)), ("killed", (1, 2, None))):
        with_generator(tmp_path / name)
        for killed_at in kills:
            process = multiprocessing.get_context("fork").Process(target=work, args=(tmp_path / name, killed_at))
            process.start()
            process.join()
            assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    whole, killed = (plan.views(Run(tmp_path / name, SETTINGS)) for name in ("whole", "killed"))
    assert (whole.path / "views.npy").read_bytes() == (killed.path / "views.npy").read_bytes()
    assert whole.facts["changed_tokens"] == killed.facts["changed_tokens"]
    assert whole.facts["feature_distance"] == killed.facts["feature_distance"]


def test_a_generator_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    run = with_generator(tmp_path / "r")
    save_weights(plan.maskgit(run).path / "maskgit.safetensors", MaskGIT(9, 4, SETTINGS.generator.maskgit))
    with pytest.raises(UserError, match="does not fit MaskGIT"):
        make_views.run(run)


def test_views_need_a_generator(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", SETTINGS)
    tile_store(plan.tiles(run).path)
    with pytest.raises(UserError, match="gcl-custom fit-generator"):
        make_views.run(run)

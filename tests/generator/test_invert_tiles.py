"""The stage of latents: exact resumption, and that nothing afterwards inverts a training tile again."""

import multiprocessing
import signal
from pathlib import Path

import biggan_file
import pytest
import swav_file
import torch
from drawn_imagery import draw
from dying import dies_at

from gcl_custom.errors import UserError
from gcl_custom.generator import fit_edit, invert_tiles
from gcl_custom.generator.encoding import joined
from gcl_custom.generator.latent_store import Latents, LatentWriter
from gcl_custom.generator.loading import load_generator
from gcl_custom.generator.public.icgan import IcGan
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.generator import IcGanSettings as Settings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.views import InterpolationSettings, SteeringSettings, StrategySettings, ViewsSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.views import make_views
from gcl_custom.views.view_store import ViewStore

INTERPOLATION = InterpolationSettings(name="interpolation", strength=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inversion")
    draw(folder / "imagery", bands=3, each=6, size=16)
    torch.save(biggan_file.public_state(condition=2048), folder / "G_ema_best0.pth")
    torch.save(swav_file.swav_state(), folder / "swav_800ep_pretrain.pth.tar")
    return folder


@pytest.fixture(autouse=True)
def _small_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder looks at fewer pixels; forked processes do likewise."""
    monkeypatch.setattr("gcl_custom.generator.public.icgan.CONDITION_SIDE", 32)


def recipe(folder: Path, strategy: StrategySettings = INTERPOLATION) -> Recipe:
    return Recipe(
        name="r",
        data=DataSettings(root=str(folder / "imagery"), size=16),
        generator=Settings(
            name="icgan",
            weights=str(folder / "G_ema_best0.pth"),
            encoder=str(folder / "swav_800ep_pretrain.pth.tar"),
            inversion_steps=4,
        ),
        views=ViewsSettings(batch=4, per_tile=2, strategy=strategy),
        hardware=HardwareSettings(accelerator="cpu", precision="fp32"),
    )


def packed(path: Path, recipe: Recipe) -> tuple[Run, TileStore]:
    run = Run(path, recipe)
    pack_tiles.pack_tiles(run)
    return run, TileStore(plan.tiles(run).path)


def work(run: Run, killed_at: int | None) -> None:
    """Invert, and die once a block was found but before it is kept."""
    torch.set_num_threads(1)
    found = dies_at(LatentWriter, "write", killed_at)
    invert_tiles.invert_tiles(run)
    assert found == list(range(3 - len(found), 3)), "what was kept is not found again"


def test_a_killed_run_goes_on_to_the_same_latents(folder: Path, tmp_path: Path) -> None:
    for name, kills in (("whole", (None,)), ("killed", (1, 3, None))):
        run, _ = packed(tmp_path / name, recipe(folder))
        for killed_at in kills:
            process = multiprocessing.get_context("fork").Process(target=work, args=(run, killed_at))
            process.start()
            process.join()
            assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    whole, killed = (plan.latents(Run(tmp_path / name, recipe(folder))) for name in ("whole", "killed"))
    assert (whole.path / "latents.npy").read_bytes() == (killed.path / "latents.npy").read_bytes()
    assert whole.facts == killed.facts == {"tiles": 12}


def test_training_tiles_are_inverted_once_for_all_that_starts_from_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, store = packed(tmp_path / "r", recipe(folder))
    train = store.index("train")
    invert_tiles.invert_tiles(run)
    made = load_generator(run, store)
    latents = joined(
        [made.encode(store.unit(store.read(some)), Randomness(0, "views", 0, some)) for some in train.split(4)]
    )
    kept = Latents(plan.latents(run).path, store).read(train)
    assert torch.equal(kept["condition"], latents.condition)
    assert torch.equal(kept["z"], latents.z)
    partner = made.augment(latents, Randomness(0, "views", 1, train))
    with monkeypatch.context() as patched:
        patched.setattr(IcGan, "encode", lambda *_: pytest.fail("inverted again"))
        make_views.make_views(run)
        make_views.make_reconstructions(run)
        learnt = Run(run.path, recipe(folder, SteeringSettings(name="steering", steps=2)))
        fit_edit.fit_edit(learnt)
        assert plan.edit(learnt).facts["tiles"] == len(train)
        capsys.readouterr()
        invert_tiles.invert_tiles(learnt)
        assert "latents: done before" in capsys.readouterr().out
    second = ViewStore(plan.views(run).path).read(train, torch.ones_like(train))
    difference = (store.unit(second) - store.unit(store.raw(made.decode(partner)))).abs()
    assert difference.max() <= 1.01 / 255, "by blocks, so up to rounding"
    plain = ViewStore(plan.reconstructions(run).path).read(train, torch.zeros_like(train))
    assert (store.unit(plain) - store.unit(store.raw(made.decode(latents)))).abs().max() <= 1.01 / 255
    assert plan.views(run).facts["feature_distance_reconstructions"] > 0


def test_views_need_the_latents(folder: Path, tmp_path: Path) -> None:
    run, _ = packed(tmp_path / "r", recipe(folder))
    with pytest.raises(UserError, match=r"views needs latents, .* Run: gcl-custom fit-generator"):
        make_views.make_views(run)

"""What several test modules need."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from command_line import TINY, gcl_custom
from drawn_imagery import draw

from gcl_custom.measures import fid

if TYPE_CHECKING:
    from object_store import ObjectStore

pytest.register_assert_rewrite("families")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real imagery: wildfire/, eurosat/ and geotiff/."""
    folder = os.environ.get("GCL_CUSTOM_DATA")
    if not folder:
        pytest.skip("real imagery: set GCL_CUSTOM_DATA to a folder with wildfire/, eurosat/ and geotiff/")
    if not Path(folder).is_dir():
        pytest.skip(f"real imagery: GCL_CUSTOM_DATA is {folder}, which is not there")
    return Path(folder)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests are small: a second thread costs more than it brings, and the order of sums stays fixed."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the three commands of a first run have been typed."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.yaml").write_text(TINY)
    gcl_custom(folder, "fit-generator", "tiny.yaml")
    gcl_custom(folder, "pretrain")
    gcl_custom(folder, "compare-supervised")
    return folder


@pytest.fixture(scope="session")
def without_training() -> Callable[..., Any]:
    """Packs a run's tiles and states that all before the comparison is done, with another network a pretraining."""

    def make(run: Any, build: Callable[[], torch.nn.Module] | None = None) -> Any:
        from gcl_custom.imagery import pack_tiles
        from gcl_custom.pretraining import backbones
        from gcl_custom.randomness import derive
        from gcl_custom.runs import arms, plan
        from gcl_custom.weights.state_dicts import save_weights

        pack_tiles.pack_tiles(run)
        for stage in (plan.tokenizer(run), plan.tokens(run), plan.maskgit(run), plan.views(run)):
            stage.begin()
            stage.finish()
        for arm, seed in arms.pretrainings(run.recipe):
            stage = plan.pretrain(run, arm, seed)
            stage.begin()
            torch.manual_seed(derive(seed, arm))
            save_weights(
                stage.path / "backbone.safetensors", build() if build else backbones.build("test_resnet", 3)[0]
            )
            stage.finish()
        return run

    return make


@pytest.fixture(scope="session")
def make_run(without_training: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a run with packed tiles and, as its pretrainings, random backbones of seeds 3 and 4."""

    def make(folder: Path, backbone: str = "test_resnet", stem: str = "standard", bands: int = 3, **data: Any) -> Any:
        # Here, so that shapes are checked: pytest reads this file before the check is in place.
        from gcl_custom.pretraining import backbones
        from gcl_custom.recipe.file import check_values
        from gcl_custom.recipe.recipe import Recipe
        from gcl_custom.runs.run import Run

        torch.set_num_threads(1)
        if "synthetic" not in data:
            draw(folder / "imagery", bands, each=32, size=32)
        values = {
            "name": "trial",
            "data": {"root": str(folder / "imagery"), "size": 32, **data},
            "pretrain": {"backbone": backbone, "stem": stem, "epochs": 4},
            "compare": {"seeds": [3, 4], "arms": ["gcl", "handcrafted"], "penalties": [1e-2], "neighbours": 5},
            "hardware": {"accelerator": "cpu", "precision": "fp32"},
        }
        run = Run(folder / "runs" / "trial", check_values(Recipe, values, "test"))
        return without_training(run, lambda: _settled(backbones.build(backbone, bands, stem)[0]))

    return make


def _settled(network: torch.nn.Module) -> torch.nn.Module:
    """Every weight and statistic away from what it is initialised with, so that one that is lost is missed."""
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.mul_(torch.empty_like(value).uniform_(0.8, 1.2))
            value.add_(torch.empty_like(value).uniform_(0, 0.02))
    return network


@pytest.fixture(scope="session")
def fid_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of FID's network as it is published, but for its numbers: those are random, of a size that keeps the
    features apart from layer to layer."""
    path = tmp_path_factory.mktemp("fid") / "weights-inception-2015-12-05-6726825d.pth"
    torch.manual_seed(0)
    network = fid._inception()
    for convolution in (module for module in network.modules() if isinstance(module, torch.nn.Conv2d)):
        torch.nn.init.kaiming_normal_(convolution.weight)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> "Iterator[ObjectStore]":
    """A server of object storage with an empty bucket; the environment says to clients where it is."""
    import fsspec  # here, since both take long
    from object_store import BUCKET, ObjectStore

    store = ObjectStore(monkeypatch)
    for name, value in store.variables.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # clients of another test's server
    fsspec.filesystem("s3").mkdir(BUCKET)
    yield store
    store.stop()

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from scored_runs import draw, run_in

from gcl_custom.errors import UserError
from gcl_custom.evaluation.given_backbones import GivenBackbone, given_backbones
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.randomness import derive
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Pool
from gcl_custom.weights.state_dicts import load_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, without_training: Callable[..., Run]) -> Run:
    folder = tmp_path_factory.mktemp("given")
    draw(folder / "imagery", 8)
    run = without_training(run_in(folder))
    run.path.mkdir(exist_ok=True)
    with run.saved():
        return run


def one(run: Run, text: str) -> GivenBackbone:
    return given_backbones(run, TileStore(plan.tiles(run).path), [text])[0]


def network(seed: int, **options: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    net: torch.nn.Module = timm.create_model("test_resnet", **options)
    return net


TILES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def represented(net: torch.nn.Module, tiles: torch.Tensor = TILES) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = net.eval()(tiles)
    return found


def test_a_run_gives_the_backbone_of_its_arm_for_each_of_its_seeds(run: Run) -> None:
    source = one(run, "old=run:trial/handcrafted")
    assert (source.seeds, source.fixed) == ([3, 4], False)
    for seed in (3, 4):
        wanted = network(0, num_classes=0)
        load_weights(plan.pretrain(run, "handcrafted", seed).path / "backbone.safetensors", wanted)
        torch.testing.assert_close(represented(source.build(seed)[0]), represented(wanted))
    assert [stage.name for stage in source.stages(4)] == ["pretrain/handcrafted-4"]
    assert one(run, "old=run:trial").stages(3)[0].name == "pretrain/gcl-3"


def test_a_cell_of_a_study_is_a_run(run: Run) -> None:
    study = run.path.parent / "study"
    cell = Run(study / "cells" / "rate=0.5", run.recipe, pool=Pool(study / "stages"))
    cell.path.mkdir(parents=True)
    with cell.saved():
        for mine, theirs in zip(plan.stages(run), plan.stages(cell), strict=True):
            if mine.done:
                shutil.copytree(mine.path, theirs.path)
    for spec, arm in (("study/cells/rate=0.5", "gcl"), ("study/cells/rate=0.5/handcrafted", "handcrafted")):
        (stage,) = one(run, f"cell=run:{spec}").stages(3)
        assert stage.path.is_relative_to(study / "stages")
        assert stage.name == f"pretrain/{arm}-3"
    with pytest.raises(UserError, match="there is no run 'study/cells' in"):
        one(run, "cell=run:study/cells/other")


def test_untrained_is_what_pretraining_begins_with(run: Run) -> None:
    source = one(run, "floor=untrained:test_resnet")
    wanted = network(derive(3, "pretrain", "initial weights"), num_classes=0)
    torch.testing.assert_close(represented(source.build(3)[0]), represented(wanted))
    assert not source.fixed
    assert source.seeds == [3, 4]


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.", "module.encoder."])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_prefix_head_and_other_parts_of_a_file_are_left_out(run: Run, tmp_path: Path, prefix: str, suffix: str) -> None:
    net = network(1)  # with its classifier of 1,000 classes
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}  # as old files
    if prefix:
        state["projector.0.weight"] = torch.zeros(2)
    path = tmp_path / f"weights.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state, "epoch": 3}, path)
    source = one(run, f"mine={path}@test_resnet")
    net.reset_classifier(0)
    torch.testing.assert_close(represented(source.build(0)[0]), represented(net))
    assert source.fixed
    assert source.input == "unit tiles"


def test_missing_and_surplus_keys_and_other_shapes_are_named(run: Run, tmp_path: Path) -> None:
    state = network(1, num_classes=0).state_dict()
    del state["conv1.0.weight"]
    state["layer9.weight"] = torch.zeros(1)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"mine=.* does not fit ResNet: missing conv1\.0\.weight; surplus layer9"):
        one(run, f"mine={tmp_path / 'a.safetensors'}@test_resnet").build(0)
    with pytest.raises(UserError, match="missing"):
        one(run, f"mine={tmp_path / 'a.safetensors'}@test_vit").build(0)
    save_file(network(1, num_classes=0, in_chans=4).state_dict(), tmp_path / "b.safetensors")
    with pytest.raises(UserError, match=r"is \(16, 4, 3, 3\), not \(16, 3, 3, 3\)"):
        one(run, f"mine={tmp_path / 'b.safetensors'}@test_resnet").build(0)


def test_a_file_with_two_networks_is_refused(run: Run, tmp_path: Path) -> None:
    state = network(1, num_classes=0).state_dict()
    both = {f"{part}.{name}": value.clone() for name, value in state.items() for part in ("student", "teacher")}
    save_file(both, tmp_path / "two.safetensors")
    with pytest.raises(UserError, match=r"several networks fit, under student\., teacher\."):
        one(run, f"mine={tmp_path / 'two.safetensors'}@test_resnet").build(0)


def test_code_in_a_file_is_not_run(run: Run, tmp_path: Path) -> None:
    torch.save(network(1), tmp_path / "pickled.pth")
    with pytest.raises(UserError, match=r"mine=.* holds more than tensors \(it names timm\."):
        one(run, f"mine={tmp_path / 'pickled.pth'}@test_resnet").build(0)
    torch.save({"epoch": 3, "optimizer": [1]}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="holds no state dict, alone or under state_dict or model, but: epoch, optim"):
        one(run, f"mine={tmp_path / 'other.pth'}@test_resnet").build(0)


def hub(folder: Path, net: torch.nn.Module) -> None:
    """A hub cache as a download leaves it, with timm/test_resnet.r160_in1k."""
    model = folder / "models--timm--test_resnet.r160_in1k"
    (model / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    save_file(net.state_dict(), model / "snapshots" / ("0" * 40) / "model.safetensors")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_weights_of_timm_come_from_the_cache_and_see_normalised_tiles(run: Run, offline: Path) -> None:
    net = network(1)
    hub(offline, net)
    source = one(run, "imagenet=timm:test_resnet")
    found, width = source.build(0)
    net.reset_classifier(0)
    about = net.pretrained_cfg
    mean, std = (torch.tensor(about[name])[:, None, None] for name in ("mean", "std"))
    torch.testing.assert_close(represented(found), represented(net, (TILES - mean) / std))
    assert width == represented(net).shape[1]
    assert source.input == "unit tiles, less the mean 0.5 0.5 0.5 and over the deviation 0.5 0.5 0.5"


def test_a_file_is_normalised_where_this_is_said(run: Run, tmp_path: Path) -> None:
    net = network(1, num_classes=0)
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    source = one(run, f"mine={tmp_path / 'a.safetensors'}@test_resnet:normalised")
    torch.testing.assert_close(represented(source.build(0)[0]), represented(net, 2 * TILES - 1))


def test_offline_without_the_weights_the_way_out_is_named(run: Run, offline: Path) -> None:
    with pytest.raises(
        UserError, match=r"neither in the local cache nor can be fetched.*FILE\.safetensors@test_resnet"
    ):
        one(run, "imagenet=timm:test_resnet").build(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timm:resnet18", "write it as NAME=run:RUN"),
        ("a b=timm:resnet18", "write it as"),
        ("a=resnet18", "write it as"),
        ("a=run:", "write it as"),
        ("a=weights.onnx@resnet18", "write it as"),
        ("a=run:other", r"no run 'other' in .* There are: \['trial'\]"),
        ("a=run:trial/paired", "no finished pretraining of arm paired .* finished arms: gcl, handcrafted"),
        ("a=timm:resnet81", "no network 'resnet81'. Did you mean"),
        ("a=timm:resnet10t.nothing", "no network|no weights"),
        ("a=nowhere.pth@resnet18", "no file nowhere.pth"),
        ("a=nowhere.pth@resnet18:halved", "may stand :small or :normalised, not :halved"),
        ("a=untrained:resnet18:normalised", "may stand :small, not :normalised"),
    ],
)
def test_what_cannot_be_meant_is_answered_with_what_can(run: Run, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        one(run, text)


def test_two_backbones_of_one_name_are_refused(run: Run) -> None:
    store = TileStore(plan.tiles(run).path)
    with pytest.raises(UserError, match="there is a backbone a already"):
        given_backbones(run, store, ["a=untrained:test_resnet", "a=untrained:test_vit"])


def test_a_small_stem_is_one_without_max_pooling(run: Run) -> None:
    small, plain = (one(run, f"a=untrained:resnet10t{stem}").build(3)[0] for stem in (":small", ""))
    assert isinstance(small.maxpool, torch.nn.Identity)
    small.maxpool = plain.maxpool
    torch.testing.assert_close(represented(small), represented(plain))


def test_a_network_of_one_size_does_not_take_tiles_of_another(run: Run) -> None:
    with pytest.raises(UserError, match=r"a=untrained:halonet_h1: the network does not take tiles of 16 px"):
        one(run, "a=untrained:halonet_h1").build(0)


def test_bands_must_fit(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "imagery" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "imagery" / name / f"{i}.png")
    grey = run_in(tmp_path)
    grey = Run(run.path.parent / "grey", grey.recipe)
    pack_tiles.pack_tiles(grey)
    with pytest.raises(UserError, match=r"trained on tiles of 3 bands, and .* has tiles of 1"):
        one(grey, "old=run:trial")
    with pytest.raises(UserError, match="weights for red, green and blue, but the tiles have 1 bands"):
        one(grey, "imagenet=timm:test_resnet")

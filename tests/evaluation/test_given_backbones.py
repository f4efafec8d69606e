import argparse
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import lightning
import numpy as np
import pytest
import rasterio
import timm
import torch
from generator_sections import ICGAN
from PIL import Image
from rasterio.transform import Affine
from safetensors.torch import save_file
from scored_runs import draw, run_in

from gcl_custom.errors import UserError
from gcl_custom.evaluation import given_backbones as module
from gcl_custom.evaluation.given_backbones import GivenBackbone, given_backbones
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.randomness import derive
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
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


def test_a_stored_value_is_the_same_number_to_a_network_of_a_run_that_scales_it_otherwise(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, others = (TileStore(plan.tiles(run).path) for _ in range(2))
    store.low, store.high = torch.tensor([10.0, 0.0, 30.0]), torch.tensor([110.0, 255.0, 130.0])
    raw = torch.randint(30, 110, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain, rescaled = (given_backbones(run, tiles, ["old=run:trial"])[0] for tiles in (others, store))
    wanted = represented(plain.build(3)[0], others.unit(raw))
    torch.testing.assert_close(represented(rescaled.build(3)[0], store.unit(raw)), wanted)
    assert (plain.input, rescaled.input) == ("unit tiles", "tiles scaled as those of run trial")
    monkeypatch.setattr(module, "normalisation", lambda *_: ([0.5] * 3, [0.2] * 3))
    standardised = "less the mean 0.5 0.5 0.5 and over the deviation 0.2 0.2 0.2"
    for tiles, known in ((others, plain), (store, rescaled)):
        assert given_backbones(run, tiles, ["old=run:trial"])[0].input == f"{known.input}, {standardised}"


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
    other = network(1, num_classes=0).state_dict() | {"conv1.0.weight": torch.zeros(16, 3, 5, 5)}
    save_file(other, tmp_path / "b.safetensors")
    with pytest.raises(UserError, match=r"is \(16, 3, 5, 5\), not \(16, 3, 3, 3\)"):
        one(run, f"mine={tmp_path / 'b.safetensors'}@test_resnet").build(0)


def test_of_two_networks_in_a_file_one_has_to_be_chosen(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "two.safetensors"
    nets = {part: network(seed, num_classes=0) for seed, part in enumerate(("student", "teacher"))}
    save_file({f"{part}.{k}": v.clone() for part, net in nets.items() for k, v in net.state_dict().items()}, file)
    both = r"several networks fit, under student\., teacher\.\. Choose .*: :part=student, :part=teacher"
    with pytest.raises(UserError, match=both):
        one(run, f"mine={file}@test_resnet").build(0)
    for part, net in nets.items():
        source = one(run, f"mine={file}@test_resnet:part={part}")
        torch.testing.assert_close(represented(source.build(0)[0]), represented(net))
        assert source.identity["part"] == part
    with pytest.raises(UserError, match=r"lie under 'ema'\. There are: :part=student, :part=teacher"):
        one(run, f"mine={file}@test_resnet:part=ema").build(0)


def test_a_part_that_lacks_a_tensor_is_still_the_one_that_was_asked_for(run: Run, tmp_path: Path) -> None:
    file, net = tmp_path / "two.pth", network(1, num_classes=0)
    student = {name: value for name, value in net.state_dict().items() if name != "conv1.0.weight"}
    torch.save({"student": student, "teacher": net.state_dict()}, file)
    with pytest.raises(UserError, match=r"does not fit ResNet: missing conv1\.0\.weight"):
        one(run, f"mine={file}@test_resnet:part=student").build(0)
    torch.testing.assert_close(represented(one(run, f"mine={file}@test_resnet").build(0)[0]), represented(net))


def lit(net: torch.nn.Module, file: Path) -> None:
    """A checkpoint as Lightning's trainer writes it, with hyperparameters, callbacks and the optimizer's state."""
    module = Lit(net, rate=0.1, crops=[2, 6])
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=file.parent, callbacks=[lightning.pytorch.callbacks.ModelCheckpoint(file.parent)],
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader([torch.rand(3, 16, 16) for _ in range(2)], batch_size=2))
    trainer.save_checkpoint(file)


class Lit(lightning.LightningModule):
    def __init__(self, net: torch.nn.Module, rate: float, crops: list[int]) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="net")
        self.backbone, self.projector = net, torch.nn.Linear(3, 3)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.backbone(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-3)


def moco(net: torch.nn.Module, file: Path) -> None:
    """As MoCo's script writes it: a query and a key encoder within a DDP module, the key's without counters."""
    query = {f"module.encoder_q.{name}": value for name, value in net.state_dict().items()}
    key = {
        f"module.encoder_k.{name}": value + 0.1
        for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")
    }  # fmt: skip
    queue = {"module.queue": torch.zeros(4, 2)}
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"epoch": 3, "arch": "resnet", "state_dict": query | key | queue, "optimizer": optimizer}, file)


def dino(net: torch.nn.Module, file: Path) -> None:
    """As DINO's script writes it: student and teacher, each with its own wrapping, and the script's options."""
    teacher = {f"backbone.{name}": value for name, value in net.state_dict().items()}
    student = {f"module.{name}": value + 0.1 for name, value in teacher.items() if value.is_floating_point()}
    head = {"head.mlp.0.weight": torch.zeros(2, 2)}
    options = argparse.Namespace(arch="resnet")
    torch.save({"student": student, "teacher": teacher | head, "args": options, "epoch": 1}, file)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's, of torch
@pytest.mark.parametrize(
    ("write", "name", "part", "ways"),
    [
        (lit, "run.ckpt", "", ""),
        (moco, "moco.pth.tar", "encoder_q", ":part=state_dict.module.encoder_k, :part=state_dict.module.encoder_q"),
        (dino, "dino.pth", "teacher", ":part=student.module.backbone, :part=teacher.backbone"),
    ],
)
def test_checkpoints_of_other_trainers_are_read(
    run: Run, tmp_path: Path, write: Callable[[torch.nn.Module, Path], None], name: str, part: str, ways: str
) -> None:
    net = network(1)
    write(net, tmp_path / name)
    net.reset_classifier(0)
    spec = f"mine={tmp_path / name}@test_resnet"
    if part:
        with pytest.raises(UserError, match=re.escape(ways)):
            one(run, spec).build(0)
        full = next(way for way in ways.split(", ") if part in way)
        torch.testing.assert_close(represented(one(run, f"{spec}{full}").build(0)[0]), represented(net))
        spec += f":part={part}"
    torch.testing.assert_close(represented(one(run, spec).build(0)[0]), represented(net))


def test_dicts_that_hold_each_other_are_read_once(run: Run, tmp_path: Path) -> None:
    net = network(1, num_classes=0)
    state: dict[str, object] = {"state_dict": net.state_dict()}
    inner: dict[str, object] = {"of": state}
    for _ in range(60):  # 2 ** 60 ways lead to the innermost
        inner = {"a": inner, "b": inner}
    state["more"] = inner
    torch.save(state, tmp_path / "loop.pth")
    torch.testing.assert_close(
        represented(one(run, f"a={tmp_path / 'loop.pth'}@test_resnet").build(0)[0]), represented(net)
    )


def test_tiles_are_enlarged_to_what_the_weights_have_seen(run: Run, tmp_path: Path) -> None:
    net = network(1, num_classes=0)
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    source = one(run, f"mine={tmp_path / 'a.safetensors'}@test_resnet:normalised:at=48")
    assert source.input.startswith("unit tiles enlarged to 48 px, less the mean")
    larger = torch.nn.functional.interpolate(TILES, size=(48, 48), mode="bicubic", antialias=True)
    assert larger.min() < 0, "the interpolation overshoots"
    expected = represented(net, 2 * larger.clamp(0, 1) - 1)
    torch.testing.assert_close(represented(source.build(0)[0]), expected)
    assert not torch.allclose(expected, represented(net, 2 * TILES - 1))
    many = TILES.repeat(3, 1, 1, 1)
    at = one(run, f"mine={tmp_path / 'a.safetensors'}@test_resnet:at=480").build(0)[0]  # four tiles at a time
    torch.testing.assert_close(represented(at, many)[-3:], represented(at), atol=1e-4, rtol=1e-4)


def test_a_network_of_one_size_takes_tiles_that_are_enlarged_to_it(run: Run) -> None:
    net, width = one(run, "a=untrained:mixer_s32_224:at=224").build(0)
    assert represented(net).shape == (3, width)


def test_code_in_a_file_is_not_run(run: Run, tmp_path: Path) -> None:
    torch.save(network(1), tmp_path / "pickled.pth")
    with pytest.raises(UserError, match=r"mine=.* holds more than tensors \(it names timm\."):
        one(run, f"mine={tmp_path / 'pickled.pth'}@test_resnet").build(0)
    torch.save({"epoch": 3, "optimizer": [1]}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="holds no state dict, alone or under a key, but: epoch, optim"):
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
    assert source.input == (
        "unit tiles, less the mean 0.5 0.5 0.5 and over the deviation 0.5 0.5 0.5; its weights have seen 160 px, the "
        "tiles have 16 (:at=160 enlarges them)"
    )


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
        ("a=generator:trial/codes", "'codes' is no part of a generator. There are: hidden, tokens"),
        ("a=generator:other", "no run 'other'"),
        ("a=timm:resnet81", "no network 'resnet81'. Did you mean"),
        ("a=timm:resnet10t.nothing", "no network|no weights"),
        ("a=nowhere.pth@resnet18", "no file nowhere.pth"),
        ("a=nowhere.pth@resnet18:halved", "may stand :small or :normalised or :at= or :part=, not :halved"),
        ("a=untrained:resnet18:normalised", "may stand :small or :at=, not :normalised"),
        ("a=untrained:resnet18:part=teacher", "may stand :small or :at=, not :part=teacher"),
        ("a=nowhere.ckpt@resnet18:at=", "not :at=$"),
        ("a=untrained:resnet18:at=8", ":at=8 should be a side in pixels from 16, which tiles have, to 4096"),
        ("a=untrained:resnet18:at=big", ":at=big should be a side"),
        ("statistics=untrained:resnet18", "statistics is a floor that stands in every table"),
    ],
)
def test_what_cannot_be_meant_is_answered_with_what_can(run: Run, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        one(run, text)


def test_a_generator_without_tokens_is_no_backbone_and_tokens_need_no_maskgit(run: Run) -> None:
    family = check_values(Recipe, {**run.recipe.model_dump(), "generator": ICGAN}, "test")
    other = Run(run.path.parent / "edits", family)
    other.path.mkdir()
    with other.saved():
        shutil.copytree(plan.tiles(run).path, plan.tiles(other).path)
    with pytest.raises(UserError, match="the generator of run edits, icgan, has no tokens of its own"):
        one(run, "a=generator:edits")
    shutil.rmtree(other.path)
    assert [stage.name for stage in one(run, "a=generator:trial/tokens").stages(3)] == ["tokenizer"]
    assert [stage.name for stage in one(run, "a=generator:trial").stages(3)] == ["tokenizer", "maskgit"]


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
    assert "less the mean 0.5 and over the deviation 0.5" in one(grey, "imagenet=timm:test_resnet").input


@pytest.mark.parametrize(
    ("bands", "said"),
    [(1, "know 3 bands, and the tiles have 1: each sees an equal share"),
     (3, "know 3 bands, and the tiles have 3: they are taken for these in their order"),
     (4, "know 3 bands, and the tiles have 4: the first 3 are taken for these, and the further ones begin at zero")],
)  # fmt: skip
def test_weights_for_three_bands_are_adapted_to_others_and_it_is_said(
    run: Run, bands: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / "imagery" / name).mkdir(parents=True)
        for i in range(10):
            path = tmp_path / "imagery" / name / f"{i}.tif"
            form = {"driver": "GTiff", "count": bands, "height": 16, "width": 16, "dtype": "uint8"}
            with rasterio.open(path, "w", **form, transform=Affine(1, 0, 0, 0, -1, 16)) as file:
                file.write(np.random.default_rng(i).integers(0, 255, (bands, 16, 16), dtype=np.uint8))
    made = run_in(tmp_path)
    data = made.recipe.data.model_copy(update={"bands": [f"band {number}" for number in range(bands)]})
    other = Run(run.path.parent / f"bands-{bands}", made.recipe.model_copy(update={"data": data}))
    pack_tiles.pack_tiles(other)
    weights = network(7, num_classes=0)
    save_file(weights.state_dict(), tmp_path / "theirs.safetensors")
    capsys.readouterr()
    found, _ = one(other, f"a={tmp_path / 'theirs.safetensors'}@test_resnet").build(0)
    captured = capsys.readouterr()
    assert said in " ".join(f"{captured.out} {captured.err}".split())
    tiles = torch.rand(3, bands, 16, 16)
    seen = tiles.expand(-1, 3, -1, -1) if bands == 1 else tiles[:, :3]
    torch.testing.assert_close(represented(found, tiles), represented(weights, seen), rtol=1e-4, atol=1e-5)

"""What pretraining begins with, what is fixed of it, and that all who read the backbone see the same network."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from pages import python_holding
from pretraining_runs import module_of, with_changes
from pretraining_runs import run_in as plain_run
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from started_runs import LITE0, started_run
from torch import Tensor, nn

import gcl_custom
from gcl_custom.errors import UserError
from gcl_custom.evaluation.given_backbones import given_backbones
from gcl_custom.export import backbone_of_run, export
from gcl_custom.files import read_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import backbones, start, trained_backbone
from gcl_custom.pretraining.contrastive import Contrastive
from gcl_custom.pretraining.pairs import Reader
from gcl_custom.pretraining.pretrain import pretrain
from gcl_custom.randomness import derive
from gcl_custom.recipe.methods import ByolSettings
from gcl_custom.recipe.pretraining import FileStartSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.weights.starts import packaged


def begun(run: Run) -> nn.Module:
    return start.begun(run.recipe.pretrain, TileStore(plan.tiles(run).path))[0].eval()


def tiles_of(run: Run) -> Tensor:
    store = TileStore(plan.tiles(run).path)
    return store.unit(store.read(torch.arange(6)))


def represented(network: nn.Module, tiles: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = network.eval()(tiles)
    return found


def lite0(bands: int = 3) -> nn.Module:
    """timm's own network with the weights, without anything of ours."""
    network: nn.Module = timm.create_model(LITE0, num_classes=0, in_chans=bands)
    if bands == 3:
        network.load_state_dict(packaged(LITE0, network))
    return network


NORMALISE = torchvision.transforms.Normalize([127 / 255] * 3, [128 / 255] * 3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    run = started_run(tmp_path_factory.mktemp("started"))
    pretrain(run, "gcl", 3)
    return run


# ---------------------------------------------------------------- without a start


def test_without_a_start_a_pretraining_begins_as_ever_and_trains_its_norms(tmp_path: Path) -> None:
    run = plain_run(tmp_path)
    torch.manual_seed(derive(0, "pretrain", "initial weights"))
    expected, _ = backbones.untrained("test_resnet", TileStore(plan.tiles(run).path))
    torch.manual_seed(derive(0, "pretrain", "initial weights"))
    module = module_of(run, with_changes())
    state = module.backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in expected.state_dict().items())
    assert all(part.training for part in module.modules())
    assert all(weight.requires_grad for weight in module.parameters())
    assert "knn_of_start" not in module.state_dict()
    assert not module.evaluate_first


# ---------------------------------------------------------------- what the network sees


def test_the_network_sees_normalised_tiles_to_the_very_border(finished: Run) -> None:
    """Padding comes after the normalisation: a border is as far from the mean as it was for the weights."""
    tiles = tiles_of(finished)
    expected = represented(lite0(), NORMALISE(tiles))
    torch.testing.assert_close(represented(begun(finished), tiles), expected, rtol=1e-5, atol=1e-5)
    assert (expected - represented(lite0(), tiles)).abs().max() > 0.1, "unit tiles would be seen otherwise"


def test_further_bands_begin_at_zero(tmp_path: Path) -> None:
    run = started_run(tmp_path, bands=4)
    tiles = tiles_of(run)
    expected = represented(lite0(), NORMALISE(tiles[:, :3]))
    torch.testing.assert_close(represented(begun(run), tiles), expected, rtol=1e-5, atol=1e-5)
    stem = begun(run).get_parameter("network.conv_stem.weight")
    assert stem.shape[1] == 4
    assert not stem[:, 3].any()
    assert stem.requires_grad


@pytest.mark.parametrize("bands", [1, 2])
def test_fewer_bands_see_grey_as_the_weights_do(bands: int) -> None:
    kernels, grey = torch.randn(5, 3, 3, 3), torch.rand(2, 1, 8, 8)
    seen = nn.functional.conv2d(grey.expand(-1, bands, -1, -1), start.kernels_for_bands(kernels, bands))
    torch.testing.assert_close(seen, nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_is_read_with_its_normalisation(tmp_path: Path, suffix: str) -> None:
    """As torchvision writes a ResNet: the same names, with its classifier."""
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    with torch.no_grad():
        for value in theirs.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.empty_like(value).uniform_(0, 0.02))
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(theirs.state_dict(), path)
    else:
        save_file(theirs.state_dict(), path)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    given = {"name": "file", "weights": str(path), "mean": mean, "std": std}
    run = started_run(tmp_path, backbone="resnet18", start=given)
    theirs.fc = nn.Identity()
    tiles = tiles_of(run)
    seen = torchvision.transforms.Normalize(mean, std)(tiles)
    torch.testing.assert_close(represented(begun(run), tiles), represented(theirs, seen), rtol=1e-4, atol=1e-4)


def test_the_backbone_of_a_run_is_a_start(finished: Run, tmp_path: Path) -> None:
    """With the normalisation that it has from its own start, which is not said again."""
    folder = tmp_path / "first"
    folder.symlink_to(finished.path.resolve())
    run = started_run(tmp_path, start={"name": "run", "run": str(folder), "seed": 3})
    own = trained_backbone.network_of(finished, plan.pretrain(finished, "gcl", 3), bands=3)[0]
    tiles = tiles_of(run)
    torch.testing.assert_close(represented(begun(run), tiles), represented(own, tiles))
    assert "pretrain.start.run" in run.contents


def test_the_backbone_of_a_run_without_a_start_sees_unit_tiles(tmp_path: Path) -> None:
    first = started_run(tmp_path, backbone="test_resnet", start={"name": "none"})
    pretrain(first, "gcl", 0)
    run = started_run(tmp_path, backbone="test_resnet", start={"name": "run", "run": str(first.path)})
    assert not isinstance(begun(run), backbones.Normalised)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"seed": 4}, "gcl-4/backbone.safetensors"),
        ({"backbone": "test_resnet", "seed": 3}, "holds tf_efficientnet_lite0"),
    ],
)
def test_a_run_that_does_not_fit_is_refused(finished: Run, start: dict[str, Any], message: str, tmp_path: Path) -> None:
    backbone = start.pop("backbone", LITE0)
    run = started_run(tmp_path, backbone=backbone, start={"name": "run", "run": str(finished.path), **start})
    with pytest.raises(UserError, match=message):
        begun(run)


# ---------------------------------------------------------------- what is trained of it


def module_in(run: Run, **changes: Any) -> Contrastive:
    settings = run.recipe.pretrain.model_copy(update=changes)
    return Contrastive(TileStore(plan.tiles(run).path), Reader(run, settings), settings, steps=2, batch=8, seed=0)


def norms_of(network: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)}


def test_frozen_norms_stay_as_they_were_and_all_else_is_trained(finished: Run) -> None:
    before = backbones.within(begun(finished)).state_dict()
    after = load_file(plan.pretrain(finished, "gcl", 3).path / "backbone.safetensors")
    fixed = {f"{name}.{part}" for name, norm in norms_of(lite0()).items() for part, _ in norm.state_dict().items()}
    assert fixed < after.keys()
    for name, value in after.items():
        assert torch.equal(value, before[name]) == (name in fixed), name


@pytest.mark.parametrize(("norms", "learns", "counts"), [("frozen", False, False), ("affine", True, False),
                                                         ("trained", True, True)])  # fmt: skip
def test_what_is_trained_of_norms(finished: Run, norms: str, learns: bool, counts: bool) -> None:
    module = module_in(finished, norms=norms)
    optimised = {id(weight) for group in module.make_optimizer().param_groups for weight in group["params"]}
    for norm in norms_of(module.backbone).values():
        assert norm.training == counts
        assert {id(norm.weight) in optimised, id(norm.bias) in optimised} == {learns}
    assert all(part.training for part in module.method.modules())
    assert len(optimised) == sum(weight.requires_grad for weight in module.parameters())


def test_a_teacher_keeps_the_norms_of_its_student(finished: Run) -> None:
    module = module_in(finished, method=ByolSettings(name="byol", projector=[16, 8]))
    assert not any(norm.training for norm in norms_of(module.method.teacher.net[0]).values())


# ---------------------------------------------------------------- the history


def test_the_history_begins_with_the_start(finished: Run) -> None:
    history = read_json(plan.pretrain(finished, "gcl", 3).path / "history.json")
    assert [row["epoch"] for row in history] == [0, 1]
    assert {"knn", "effective_rank", "lidar"} < history[0].keys()
    assert "loss" not in history[0]


def test_a_fall_below_the_start_is_told(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    module = module_in(finished)
    for score, warned in ((1 / 3, False), (0.6, False), (0.3, True), (1 / 3, False)):
        module._compare_with_start(score)
        assert ("below the 33.3 % of the weights" in " ".join(capsys.readouterr().out.split())) == warned


# ---------------------------------------------------------------- who reads it


def test_all_readers_see_the_same_network(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles, store = tiles_of(finished), TileStore(plan.tiles(finished).path)
    own = lite0()
    own.load_state_dict(load_file(plan.pretrain(finished, "gcl", 3).path / "backbone.safetensors"))
    expected = represented(own, NORMALISE(tiles))

    def same(network: nn.Module, seen: Tensor = tiles) -> None:
        torch.testing.assert_close(represented(network, seen), expected, rtol=1e-4, atol=1e-4)

    with finished.saved():
        (given,) = given_backbones(finished, store, ["ours=run:trial"])
    same(given.build(3)[0])
    assert "less the mean 0.498039" in given.input
    same(backbone_of_run.load_backbone(finished, "gcl", 3).network)
    network, transform = gcl_custom.load(finished.path, seed=3)
    files = [Path(finished.recipe.data.root) / source.path for source in store.sources[:6]]
    same(network, torch.stack([transform(file) for file in files]))
    table = gcl_custom.embed(finished.path, finished.recipe.data.root, seed=3)
    found = dict(zip(table["file"].to_pylist(), table["representation"].to_pylist(), strict=True))
    rows = torch.tensor([found[source.path] for source in store.sources[:6]])
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-4)

    own_file = plan.pretrain(finished, "gcl", 3).path / "backbone.safetensors"
    (given,) = given_backbones(finished, store, [f"ours={own_file}@{LITE0}"])
    same(given.build(3)[0])
    alone, transform = gcl_custom.load(own_file)
    same(alone, torch.stack([transform(file) for file in files]))
    lines = python_holding("use-it-elsewhere.md", "safe_open")
    names: dict[str, Any] = {}
    exec(lines.replace("runs/mine/pretrain/gcl-0/backbone.safetensors", str(own_file)), names)
    same(names["backbone"], names["unit"](store.read(torch.arange(6)).float()))

    monkeypatch.chdir(tmp_path)
    export.export(finished, "timm", tmp_path / "backbone.safetensors")
    with safe_open(tmp_path / "backbone.safetensors", "pt") as file:
        about = file.metadata()
        assert set(file.keys()) == set(own.state_dict())
    exec(about["how_to_load"], names)
    same(names["backbone"])
    assert "takes off the mean [0.498" in about["input"]

    export.export(finished, "huggingface", tmp_path / "model")
    shared = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    config = timm.data.resolve_data_config(model=shared)
    same(shared, torchvision.transforms.Normalize(config["mean"], config["std"])(tiles))


def test_onnx_holds_the_normalisation(finished: Run, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export.export(finished, "onnx", tmp_path / "backbone.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "backbone.onnx", providers=["CPUExecutionProvider"])
    tiles = tiles_of(finished)
    expected = represented(backbone_of_run.load_backbone(finished, "gcl", 3).network, tiles)
    torch.testing.assert_close(torch.tensor(session.run(None, {"tiles": tiles.numpy()})[0]), expected, rtol=1e-3,
                               atol=1e-3)  # fmt: skip


def test_other_weights_under_the_same_name_are_another_pretraining(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    given = {"name": "file", "weights": str(path), "mean": [0.5], "std": [0.5]}
    prints = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
        run = started_run(tmp_path, backbone="test_resnet", start=given)
        prints.add(plan.pretrain(run, "gcl", 3).fingerprint)
    other = run.recipe.pretrain.model_copy(update={"start": FileStartSettings(**{**given, "mean": [0.4]})})
    run.recipe = run.recipe.model_copy(update={"pretrain": other})
    prints.add(plan.pretrain(run, "gcl", 3).fingerprint)
    assert len(prints) == 3


def test_saying_the_default_of_norms_changes_nothing(finished: Run) -> None:
    wanted = plan.pretrain(finished, "gcl", 3).fingerprint
    for norms, same in (("frozen", True), ("affine", False)):
        said = finished.recipe.pretrain.model_copy(update={"norms": norms})
        run = Run(finished.path, finished.recipe.model_copy(update={"pretrain": said}))
        assert (plan.pretrain(run, "gcl", 3).fingerprint == wanted) == same

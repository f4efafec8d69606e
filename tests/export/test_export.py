"""Every format is loaded by the lines of Python that come with it, and gives the representations of the run."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.export import backbone_of_run, export
from gcl_custom.pretraining import backbones
from gcl_custom.recipe.pretraining import PretrainSettings
from gcl_custom.runs.run import Run

Make = Callable[..., Run]


@pytest.fixture(scope="module")
def small(make_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A ResNet-18 with the small stem on four bands of uint16: whatever a format could forget."""
    return make_run(tmp_path_factory.mktemp("small"), "resnet18", "small", 4)


@pytest.fixture(scope="module")
def rgb(make_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("rgb"))


@pytest.fixture(scope="module")
def transformer(make_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A vision transformer, which is built for other tiles than these."""
    return make_run(tmp_path_factory.mktemp("transformer"), "test_vit")


def ours(run: Run, arm: str = "gcl", seed: int = 3) -> tuple[Tensor, Tensor]:
    """Tiles of the run, and their representations by its own network."""
    known = backbone_of_run.load_backbone(run, arm, seed)
    tiles = known.store.unit(known.store.read(torch.arange(0, len(known.store), 17)))
    with torch.inference_mode():
        return tiles, known.network(tiles)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def loaded(lines: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """What a reader who pastes the lines gets."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(lines, names)
    network: nn.Module = names["backbone"]
    assert not network.training, "batch normalisation would take the statistics of the reader's batch"
    return network


def test_safetensors_load_as_their_metadata_say(small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export.export(small, "timm", tmp_path / "deep" / "backbone.safetensors", "handcrafted", 4)
    about = metadata(tmp_path / "deep" / "backbone.safetensors")
    network = loaded(about["how_to_load"], tmp_path / "deep", monkeypatch)
    assert type(network).__module__.startswith("timm")
    tiles, expected = ours(small, "handcrafted", 4)
    with torch.inference_mode():
        torch.testing.assert_close(network(tiles), expected, rtol=1e-5, atol=1e-5)
    assert (about["arm"], about["seed"]) == ("handcrafted", "4")
    assert "uint16" in about["input"]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_timm_s_resnets_load_in_torchvision_as_they_are(name: str) -> None:
    """What the refusal of --to torchvision says: every name and shape, and the same equations."""
    torch.manual_seed(0)
    here = timm.create_model(name, num_classes=0).eval().double()
    with torch.no_grad():
        for value in here.state_dict().values():  # away from what layers start with, so that nothing is lost unseen
            if value.is_floating_point():
                value.add_(torch.empty_like(value).uniform_(0, 0.02))
    there = torchvision.models.get_model(name, weights=None).eval().double()
    there.fc = nn.Identity()
    there.load_state_dict(here.state_dict())
    tiles = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        expected = here(tiles)
        torch.testing.assert_close(there(tiles), expected, rtol=1e-9, atol=1e-9)
    assert (expected[0] - expected[1]).abs().max() > 1e-6, "the network does not look at its tiles"


@pytest.fixture(scope="module")
def four(make_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on four bands of uint16."""
    return make_run(tmp_path_factory.mktemp("four"), bands=4)


@pytest.mark.parametrize("which", ["four", "rgb", "transformer"])
def test_a_folder_for_hugging_face_is_what_timm_loads(
    which: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = request.getfixturevalue(which)
    export.export(run, "huggingface", tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    network = loaded(card.split("```python\n")[1].split("```")[0], tmp_path, monkeypatch)
    tiles, expected = ours(run)
    with torch.inference_mode():
        torch.testing.assert_close(network(tiles), expected, rtol=1e-5, atol=1e-5)
    config = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    assert config["num_features"] == expected.shape[1]
    assert config["pretrained_cfg"]["input_size"] == list(tiles.shape[1:])


def test_the_folder_where_one_is_takes_a_network(rgb: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a #1?" / "model"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    export.export(rgb, "huggingface", Path("."), overwrite=True)
    assert 'create_model("local-dir:model"' in (folder / "README.md").read_text("utf-8")
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_timm_s_own_transform_makes_the_unit_tiles_of_the_run(rgb: Run, tmp_path: Path) -> None:
    export.export(rgb, "huggingface", tmp_path / "model")
    network = timm.create_model(f"local-dir:{tmp_path / 'model'}")
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    known = backbone_of_run.load_backbone(rgb, "gcl", None)
    with Image.open(Path(rgb.recipe.data.root) / known.store.sources[5].path) as image:
        torch.testing.assert_close(transform(image), known.store.unit(known.store.read(torch.tensor([5])))[0])


@pytest.mark.parametrize("which", ["small", "transformer"])
def test_onnx_takes_any_number_of_tiles(
    which: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    run = request.getfixturevalue(which)
    export.export(run, "onnx", tmp_path / "backbone.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "backbone.onnx", providers=["CPUExecutionProvider"])
    tiles, expected = ours(run)
    for count in (1, 3, len(tiles)):
        (found,) = session.run(None, {"tiles": tiles[:count].numpy()})
        np.testing.assert_allclose(found, expected[:count].numpy(), rtol=1e-4, atol=1e-4)
    about = session.get_modelmeta().custom_metadata_map
    assert about["input"] == backbone_of_run.load_backbone(run, "gcl", None).input
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"tiles": tiles.numpy()}
    exec(about["how_to_load"], names)
    np.testing.assert_allclose(names["representations"], expected.numpy(), rtol=1e-4, atol=1e-4)


def test_an_onnx_model_that_comes_out_otherwise_is_not_written(
    rgb: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Program:
        """Stands for torch's, which takes long to make; what is read back is compared all the same."""

        def __init__(self) -> None:
            self.model, self.metadata_props = self, dict[str, str]()

        def save(self, path: Path) -> None:
            path.write_bytes(b"")

    monkeypatch.setattr(torch.onnx, "export", lambda *given, **options: Program())
    monkeypatch.setattr(export, "find_spec", lambda name: object())
    network = backbone_of_run.load_backbone(rgb, "gcl", None).network
    for factor, good in ((1.001, False), (1.0, True)):
        monkeypatch.setattr(export, "_run_onnx", lambda path, tiles, by=factor: by * network(tiles).detach())
        if good:
            export.export(rgb, "onnx", tmp_path / "out")
        else:
            with pytest.raises(UserError, match=r"onnxruntime reads it.*differ by up to"):
                export.export(rgb, "onnx", tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["out"] * good


def test_what_is_there_stays_unless_it_is_to_be_overwritten(rgb: Run, tmp_path: Path) -> None:
    file, folder = tmp_path / "backbone.safetensors", tmp_path / "model"
    file.write_text("mine")
    folder.mkdir()
    (folder / ".gitattributes").write_text("mine")
    (folder / "README.md").write_text("old")
    for form, out in (("timm", file), ("huggingface", folder)):
        with pytest.raises(UserError, match="--overwrite"):
            export.export(rgb, form, out)
        export.export(rgb, form, out, overwrite=True)
    assert metadata(file)["architecture"] == "test_resnet"
    assert (folder / ".gitattributes").read_text() == "mine"
    assert (folder / "README.md").read_text("utf-8") != "old"
    with pytest.raises(UserError, match="is a folder"):
        export.export(rgb, "timm", folder, overwrite=True)


@pytest.mark.parametrize("form", ["huggingface", "torchgeo"])
def test_a_small_stem_is_refused_where_other_software_would_build_another_network(
    small: Run, form: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"timm has no resnet18 without max-pooling.*--to timm or --to onnx"):
        export.export(small, form, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


SIDES = {
    "resnet10t": 64, "tf_efficientnet_lite0": 64, "vit_tiny_patch16_224": 64, "convnext_atto": 64,
    "swin_tiny_patch4_window7_224": 224,
}  # fmt: skip
"""Architectures of several kinds, and a side of tiles that each takes."""


@pytest.mark.parametrize("name", SIDES)
def test_timm_loads_a_folder_with_a_classifier_and_for_other_bands(
    rgb: Run, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 10 classes the features are the same; with 4 bands all but the first layer is."""
    monkeypatch.setattr(export, "_require_same", lambda known, other: None)  # a test of its own
    torch.manual_seed(0)
    network, width = backbones.build(name, 3)
    run = Run(rgb.path, rgb.recipe.model_copy(update={"pretrain": PretrainSettings(backbone=name)}))
    known = replace(backbone_of_run.load_backbone(rgb, "gcl", None), run=run, network=network.eval(), width=width)
    export.to_huggingface(known, tmp_path / "model")
    folder = f"local-dir:{tmp_path / 'model'}"
    classifier: Any = timm.create_model(folder, pretrained=True, num_classes=10).eval()
    tiles = torch.rand(1, 3, SIDES[name], SIDES[name])
    with torch.inference_mode():
        features = classifier.forward_head(classifier.forward_features(tiles), pre_logits=True)
        torch.testing.assert_close(features, network(tiles), rtol=1e-4, atol=1e-4)
        assert classifier(tiles).shape == (1, 10)
    wide = timm.create_model(folder, pretrained=True, in_chans=4).state_dict()
    (first,) = [key for key, value in network.state_dict().items() if wide[key].shape != value.shape]
    kernels = network.state_dict()[first]
    torch.testing.assert_close(wide[first][:, :3], kernels * 3 / 4)
    assert all(torch.equal(wide[key], value) for key, value in network.state_dict().items() if key != first)


def test_a_folder_of_other_bands_takes_a_classifier_and_never_begins_anew(four: Run, tmp_path: Path) -> None:
    export.export(four, "huggingface", tmp_path / "model")
    folder = f"local-dir:{tmp_path / 'model'}"
    classifier: Any = timm.create_model(folder, pretrained=True, num_classes=10).eval()
    tiles, expected = ours(four)
    with torch.inference_mode():
        found = classifier.forward_head(classifier.forward_features(tiles), pre_logits=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(RuntimeError, match="size mismatch"):
        timm.create_model(folder, pretrained=True, in_chans=5)


@pytest.mark.parametrize("which", ["rgb", "four"])
def test_a_checkpoint_for_torchgeo_is_what_its_trainers_read(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """As torchgeo's trainers read the argument weights: the name among the hyper-parameters, tensors below model."""
    run = request.getfixturevalue(which)
    export.export(run, "torchgeo", tmp_path / "backbone.ckpt")
    checkpoint = torch.load(tmp_path / "backbone.ckpt", weights_only=True)
    name = checkpoint["hyper_parameters"]["model"]
    state = {key.replace("model.", ""): value for key, value in checkpoint["state_dict"].items() if "model." in key}
    tiles, expected = ours(run)
    network: Any = timm.create_model(name, num_classes=10, in_chans=tiles.shape[1])
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    network.eval()
    with torch.inference_mode():
        found = network.forward_head(network.forward_features(tiles), pre_logits=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert f'weights="backbone.ckpt", in_channels={tiles.shape[1]}' in checkpoint["about"]["how_to_load"]


def test_torchgeo_is_not_given_what_it_cannot_load(rgb: Run, tmp_path: Path) -> None:
    """It asks a network's last part for its ``out_features``, and timm's heads of several layers have none."""
    known = backbone_of_run.load_backbone(rgb, "gcl", None)
    settings = PretrainSettings(backbone="regnetx_002")
    run = Run(rgb.path, rgb.recipe.model_copy(update={"pretrain": settings}))
    known = replace(known, run=run, network=backbones.build("regnetx_002", 3)[0].eval())
    with pytest.raises(UserError, match="last part is a linear layer, and that of regnetx_002 is a ClassifierHead"):
        export.to_torchgeo(known, tmp_path / "backbone.ckpt")


def test_torchgeo_is_not_given_what_it_builds_for_another_size(transformer: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="torchgeo builds test_vit for tiles of one size"):
        export.export(transformer, "torchgeo", tmp_path / "backbone.ckpt")


@pytest.mark.parametrize("form", ["timm", "huggingface", "torchgeo"])
def test_a_network_that_comes_out_otherwise_is_not_written(
    rgb: Run, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if other software had changed an equation: its network is off by 0.1 %."""
    same = export._require_same

    def changed(known: backbone_of_run.TrainedBackbone, other: nn.Module) -> None:
        same(known, nn.Sequential(other, Scale()))

    monkeypatch.setattr(export, "_require_same", changed)
    with pytest.raises(UserError, match="differ by up to"):
        export.export(rgb, form, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class Scale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1.001 * x


def test_messages_name_what_there_is(rgb: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="timm, onnx, huggingface, torchgeo"):
        export.export(rgb, "tensorflow", tmp_path / "x")
    with pytest.raises(UserError, match=r"use --to timm\. timm's ResNets load in torchvision as they are"):
        export.export(rgb, "torchvision", tmp_path / "x")
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(UserError, match=r"needs onnxscript, which is not.*pip install 'gcl-custom\[onnx\]'"):
        export.export(rgb, "onnx", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_files_can_be_read_by_others(rgb: Run, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        export.export(rgb, "timm", tmp_path / "backbone.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "backbone.safetensors").stat().st_mode & 0o777 == 0o644

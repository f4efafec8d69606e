import importlib.util
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gcl_custom.errors import UserError
from gcl_custom.weights import hub

CPU, FP32 = torch.device("cpu"), torch.float32


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, numpy 2


IMAGE_TO_IMAGE = "AutoPipelineForImage2Image"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import save_sdxl

    return save_sdxl(tmp_path_factory.mktemp("hub") / "sdxl")


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "sdxl"))


def load(model: Path) -> Any:
    return hub.load_pipeline(IMAGE_TO_IMAGE, str(model), "generator.model", CPU, FP32)


def refused(model: Path, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(model)


def test_every_weight_is_the_one_that_was_saved(model: Path) -> None:
    pipeline = load(model)
    for part, file in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        found, wanted = getattr(pipeline, part).state_dict(), load_file(model / part / f"{file}.safetensors")
        assert found.keys() == wanted.keys()
        assert all(found[name].equal(value) for name, value in wanted.items())
    assert pipeline.watermark is None


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder_2", "scheduler", "tokenizer"])
def test_a_missing_part_is_named(model: Path, part: str) -> None:
    shutil.rmtree(model / part)
    refused(model, rf"generator\.model: .*sdxl lacks its {part} in .*gcl-custom weights RECIPE --download")


def test_missing_files_of_a_part_are_named(model: Path) -> None:
    (model / "vae" / "config.json").unlink()
    refused(model, r"its part vae has no config\.json")
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    refused(model, r"its part unet has no safetensors in .*unet|its part vae has no config\.json")


def test_a_pickle_is_not_read(model: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    refused(model, r"its part unet has no safetensors .*pickles, which are not read.*diffusion_pytorch_model\.bin")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("part", "file", "key"),
    [
        ("unet", "diffusion_pytorch_model", "conv_in.weight"),
        ("text_encoder", "model", "text_model.final_layer_norm.weight"),
    ],
)
def test_tensors_are_compared_with_the_network(model: Path, part: str, file: str, key: str) -> None:
    path = model / part / f"{file}.safetensors"
    state = load_file(path)
    key = next(name for name in state if name.endswith(key.removeprefix("text_model.")))
    about = {"format": "pt"}
    save_file({name: value for name, value in state.items() if name != key}, path, about)
    refused(model, rf"its part {part} .*missing \S*{key.split('.')[-2]}\.weight")
    save_file({**state, "more.weight": torch.zeros(1)}, path, about)
    refused(model, rf"its part {part} .*surplus more\.weight")
    save_file({**state, key: torch.zeros(3)}, path, about)
    refused(model, rf"its part {part} .*{key.split('.')[-2]}\.weight.*3")
    path.write_bytes(path.read_bytes()[:-8])
    refused(model, rf"its part {part} .*cannot be read")


def test_other_folders_are_refused(model: Path) -> None:
    index = json.loads((model / hub.INDEX).read_text())
    (model / hub.INDEX).write_text(json.dumps({**index, "transformer": ["diffusers", "FluxTransformer2DModel"]}))
    refused(model, "has a part transformer of class FluxTransformer2DModel, which is not read")
    (model / hub.INDEX).write_text(json.dumps({**index, "vae": ["../elsewhere", "Trojan"]}))
    refused(model, "has a part vae of class Trojan, which is not read")
    (model / hub.INDEX).write_text(json.dumps({**index, "_class_name": "NoSuchPipeline"}))
    refused(model, f"is no model for {IMAGE_TO_IMAGE}")
    (model / hub.INDEX).write_text("{")
    refused(model, r"model_index\.json is damaged")
    (model / hub.INDEX).unlink()
    refused(model, r"is no pipeline of diffusers: .* has no model_index\.json")


@pytest.mark.parametrize("name", ["somebody/no-such-model", "./no/such/folder", "/no/such/folder", "nowhere"])
def test_a_model_that_is_nowhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=rf"here: {name} is no folder .* gcl-custom weights RECIPE --download"):
        hub.folder_of(name, "here")


def test_a_model_that_the_hub_s_client_has_fetched(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's cache: a folder for each commit, and a file that names the commit of each branch."""
    place = tmp_path / "models--somebody--tiny"
    shutil.copytree(saved, place / "snapshots" / ("a" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert hub.folder_of("somebody/tiny", "here") == place / "snapshots" / ("a" * 40)


def test_half_precision_is_read_where_it_is_wanted_or_alone(model: Path) -> None:
    folder = model / "unet"
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    halved = {name: (2 * value).half() for name, value in state.items()}
    save_file(halved, folder / "diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})

    def read(precision: torch.dtype) -> torch.Tensor:
        return hub.load_network(*hub.NETWORKS["unet"], folder, "unet", "here", precision).conv_in.weight

    assert read(FP32).equal(state["conv_in.weight"])
    assert read(torch.float16).equal(halved["conv_in.weight"])
    path.unlink()
    assert read(FP32).equal(halved["conv_in.weight"].float())


def test_the_vae_stays_in_fp32_where_fp16_overflows(model: Path) -> None:
    assert hub.load_pipeline(IMAGE_TO_IMAGE, str(model), "here", CPU, torch.float16).vae.dtype == FP32
    config = json.loads((model / "vae" / "config.json").read_text())
    (model / "vae" / "config.json").write_text(json.dumps({**config, "force_upcast": False}))
    pipeline = hub.load_pipeline(IMAGE_TO_IMAGE, str(model), "here", CPU, torch.float16)
    assert pipeline.vae.dtype == pipeline.unet.dtype == pipeline.text_encoder.dtype == torch.float16


def test_without_the_libraries_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hub.require_installed("here")
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "diffusers" else find(name))
    with pytest.raises(UserError, match=r"here needs diffusers\. Run: pip install 'gcl-custom\[diffusion\]'"):
        hub.require_installed("here")


def test_other_bands_are_refused() -> None:
    hub.require_colours("here", 3)
    with pytest.raises(UserError, match=r"here: .*red, green and blue, and the tiles' number of bands is 4"):
        hub.require_colours("here", 4)

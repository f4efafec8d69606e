"""Nothing here uses a network: the hub's client is replaced where it would, or told to stay offline."""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors.torch import load_file

from gcl_custom.errors import UserError
from gcl_custom.generator.public.captions import Captioner
from gcl_custom.weights.catalogue import CATALOGUE, Public
from gcl_custom.weights.digests import sha256
from gcl_custom.weights.fetch import by_hand, fetch, wanted
from gcl_custom.weights.needed import Needed
from gcl_custom.weights.on_disk import look


def public(choice: str) -> Public:
    return next(entry for entry in CATALOGUE if entry.choice == choice)


def file(entry: Public, path: Path) -> Needed:
    return Needed(("generator.weights",), str(path), False, entry, True)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Stands in for the hub: notes what is asked for, and gives a file."""
    asked: list[dict[str, Any]] = []

    def hf_hub_download(repository: str, name: str, local_dir: Path) -> str:
        asked.append({"repository": repository, "file": name})
        place = local_dir / name
        place.parent.mkdir(parents=True)
        place.write_bytes(b"weights")
        return str(place)

    class HfApi:
        def list_repo_files(self, repository: str) -> list[str]:
            return ["model_index.json", "unet/x.safetensors", "unet/x.bin"]

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
    monkeypatch.setattr("huggingface_hub.HfApi", HfApi)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **options: asked.append({"repository": name, **options})
    )
    return asked


def test_a_file_of_the_hub_comes_to_the_place_that_the_recipe_names(
    tmp_path: Path, hub: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights" / "other-name.pth"
    fetch(file(public("halton"), path))
    assert path.read_bytes() == b"weights"
    assert [place.name for place in path.parent.iterdir()] == ["other-name.pth"]
    assert hub == [{"repository": "llvictorll/Halton-MaskGIT", "file": "ImageNet_256_base.pth"}]
    out = capsys.readouterr().out
    assert "licence MIT" in out
    assert "commercially" not in out


def test_the_licence_is_told_before_anything_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def watched(url: str, path: str, hash_prefix: str | None) -> None:
        said.append(capsys.readouterr().out)
        raise OSError("cut off here")

    monkeypatch.setattr("torch.hub.download_url_to_file", watched)
    path = tmp_path / "w" / "G_ema_best0.pth"
    with pytest.raises(UserError, match="could not be fetched: cut off here Is there a network"):
        fetch(file(public("icgan"), path))
    assert "may not be used commercially. Its licence is CC-BY-NC 4.0" in said[0]


def test_an_archive_gives_one_file_and_writes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "inner").write_bytes(b"inside")
    archive = tmp_path / "icgan_biggan_imagenet_res256.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "inner", "../above/readme")
        tar.add(tmp_path / "inner", "some/folder/G_ema_best0.pth")
    path, entry = tmp_path / "w" / "G_ema_best0.pth", replace(public("icgan"), url=archive.as_uri())
    fetch(file(entry, path))
    assert path.read_bytes() == b"inside"
    assert [place.name for place in path.parent.iterdir()] == ["G_ema_best0.pth"]
    assert not (tmp_path / "above").exists()
    with pytest.raises(UserError, match=r"icgan_biggan_imagenet_res256\.tar\.gz holds no other\.pth"):
        fetch(file(replace(entry, member="other.pth"), tmp_path / "w" / "other.pth"))
    assert not (tmp_path / "w" / "other.pth").exists()


def test_folders_come_into_the_cache_or_to_the_path_that_is_named(hub: list[dict[str, Any]]) -> None:
    turbo = public("diffusion")
    kept = ["model_index.json", "unet/x.safetensors"]
    fetch(Needed(("generator.model",), turbo.repository, True, turbo, True))
    fetch(Needed(("generator.model",), "weights/sdxl-turbo", True, turbo, True))
    assert [(asked["repository"], asked["allow_patterns"], asked["local_dir"]) for asked in hub] == [
        (turbo.repository, kept, None), (turbo.repository, kept, "weights/sdxl-turbo"),
    ]  # fmt: skip


def test_a_plain_address_is_fetched_and_its_digest_compared(tmp_path: Path) -> None:
    source = tmp_path / "there.pth"
    source.write_bytes(b"abc")
    entry = Public("vgg16", "Net", "BSD", url=source.as_uri(), sha256=sha256(source)[:8])
    fetch(file(entry, tmp_path / "w" / "here.pth"))
    assert (tmp_path / "w" / "here.pth").read_bytes() == b"abc"
    with pytest.raises(UserError, match="invalid hash value"):
        fetch(file(replace(entry, sha256="01234567"), tmp_path / "w" / "wrong.pth"))
    assert not (tmp_path / "w" / "wrong.pth").exists()


def test_offline_there_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set.*copy the weights to .*w\.pth"):
        fetch(file(public("halton"), tmp_path / "w.pth"))


def test_without_a_network_there_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's real client, at an address where nobody listens; it tries several times."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}")  # fmt: skip
    with pytest.raises(UserError, match=r"generator\.weights: ImageNet_256_base\.pth could not be fetched.*network"):
        fetch(file(public("halton"), tmp_path / "w.pth"))
    assert not (tmp_path / "w.pth").exists()


@pytest.mark.parametrize(
    ("need", "order"),
    [
        (file(public("halton"), Path("w/ImageNet_256_base.pth")),
         "hf download llvictorll/Halton-MaskGIT ImageNet_256_base.pth --local-dir w"),
        (file(public("vgg16"), Path("v.pth")),
         "curl --create-dirs -Lo v.pth https://download.pytorch.org/models/vgg16-397923af.pth"),
        (file(public("icgan"), Path("w/G_ema_best0.pth")),
         "curl -LO https://dl.fbaipublicfiles.com/ic_gan/icgan_biggan_imagenet_res256.tar.gz, unpack it and put "
         "G_ema_best0.pth at w/G_ema_best0.pth"),
        (file(public("mage"), Path("m.pth")), "https://github.com/LTH14/mage leads to its file; put it at m.pth"),
        (Needed(("generator.model",), "sd/turbo", True, public("diffusion"), True),
         "hf download stabilityai/sdxl-turbo --local-dir sd/turbo"),
        (Needed(("generator.maskgit.weights",), "own.safetensors"),
         "Put your own file at own.safetensors, or name another in the recipe"),
    ],
)  # fmt: skip
def test_there_is_an_order_for_each_kind(need: Needed, order: str) -> None:
    assert by_hand(need) == order


def test_what_cannot_be_fetched_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"cannot be fetched from here\. https://github\.com/LTH14/mage leads to"):
        fetch(file(public("mage"), Path("m.pth")))


def test_of_a_repository_only_what_is_read_is_wanted() -> None:
    files = ["model_index.json", "README.md", "sd_xl_turbo_1.0.safetensors", "unet/config.json",
             "unet/m.safetensors", "unet/m.fp16.safetensors", "unet/model.onnx", "vae/m.safetensors", "vae/m.bin",
             "tokenizer/merges.txt", "safety_checker/m.safetensors",
             "text/m-00001-of-00002.safetensors", "text/m.fp16-00001-of-00002.safetensors"]  # fmt: skip
    assert wanted(files) == [
        "model_index.json", "unet/config.json", "unet/m.fp16.safetensors", "vae/m.safetensors", "tokenizer/merges.txt",
        "text/m.fp16-00001-of-00002.safetensors",
    ]  # fmt: skip
    single = ["config.json", "vocab.txt", "model.safetensors", "pytorch_model.bin", "onnx/model.safetensors"]
    assert wanted(single) == ["config.json", "vocab.txt", "model.safetensors"]
    assert wanted(["config.json", "pytorch_model.bin", "tf_model.h5"]) == ["config.json", "pytorch_model.bin"]
    assert wanted(["model_index.json", "pytorch_model.bin", "unet/m.bin"]) == ["model_index.json"]


def test_of_a_model_that_is_published_as_a_pickle_alone_the_tensors_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As BLIP's repository is: what was fetched captions tiles as the model itself does."""
    there, here = tiny_models.save_blip(tmp_path / "there"), tmp_path / "here"
    whole = Captioner(str(there), "here", bands=3, device=torch.device("cpu"))
    torch.save(load_file(there / "model.safetensors"), there / "pytorch_model.bin")
    (there / "model.safetensors").unlink()

    class HfApi:
        def list_repo_files(self, repository: str) -> list[str]:
            return [path.name for path in there.iterdir()]

    def snapshot_download(repository: str, allow_patterns: list[str], local_dir: str) -> str:
        return str(shutil.copytree(there, local_dir))

    monkeypatch.setattr("huggingface_hub.HfApi", HfApi)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    need = Needed(("generator.captions",), str(here), True, public("captions"), True)
    fetch(need)
    assert look(need).there
    tiles = torch.rand(4, 3, 24, 24)
    again = Captioner(str(here), "here", bands=3, device=torch.device("cpu"))
    assert again.captions(tiles) == whole.captions(tiles)
    copied = look(replace(need, given=str(there)))
    assert (copied.state, "--download makes safetensors of it" in copied.what) == ("damaged", True)

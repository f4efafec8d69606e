import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gcl_custom.console import console
from gcl_custom.errors import UserError
from gcl_custom.weights.catalogue import CATALOGUE, Public
from gcl_custom.weights.needed import Needed
from gcl_custom.weights.on_disk import Found, digest, look, require_readable, show
from gcl_custom.weights.state_dicts import read_state, save_weights

STATE = {"a": torch.ones(100), "b": torch.zeros(2)}


def own(path: Path, folder: bool = False) -> Needed:
    return Needed(("generator.maskgit.weights",), str(path), folder)


def known(path: Path, size: int | None = None, estimated: bool = False, sha256: str = "") -> Needed:
    public = Public("halton", "Net", "MIT", file=path.name, size=size, estimated=estimated, sha256=sha256)
    return Needed(("generator.maskgit.weights",), str(path), False, public, True)


@pytest.mark.parametrize("kind", ["safetensors", "archive", "stream"])
def test_a_file_that_can_be_read_is_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    assert look(own(path)) == Found("missing", "")
    if kind == "safetensors":
        save_weights(path, STATE)
    else:
        torch.save({"model": STATE, "epoch": 3}, path, _use_new_zipfile_serialization=kind == "archive")
    found = look(own(path))
    assert (found.state, found.what, found.size) == ("there", "2 tensors", path.stat().st_size)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert look(own(path)).state == "damaged"


def test_a_pickle_of_other_things_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"network": nn.Linear(1, 1), "state_dict": STATE}, tmp_path / "last.ckpt")
    found = look(own(tmp_path / "last.ckpt"))
    assert found.state == "damaged"
    assert found.what.startswith("is a pickle that holds more than tensors (it names torch.nn.modules.linear.Linear)")
    show([(own(tmp_path / "last.ckpt"), found)])
    assert "save its tensors" not in capsys.readouterr().out
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    assert look(own(tmp_path / "none.pth")).what == "holds no tensor"


def test_a_size_far_from_the_published_one_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, STATE)
    size = path.stat().st_size
    assert look(known(path, size)).there
    assert look(known(path, round(size * 1.09))).there
    assert look(known(path, round(size * 1.2))).what == f"{size} B, published: {round(size * 1.2)} B"
    assert look(known(path, round(size * 1.2), estimated=True)).there
    assert not look(known(path, 3 * size, estimated=True)).there
    assert look(replace(known(path, 3 * size), exact=False)).there  # another file of the same kind


def test_the_digest_is_compared_where_one_is_published(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, STATE)
    value = digest(own(path), look(own(path))).split()[0]
    assert len(value) == 64
    assert digest(own(path), look(own(path))).endswith("(none is published to compare with)")
    right, wrong = known(path, sha256=value[:8]), known(path, sha256="0123abcd")
    assert digest(right, look(right)) == f"{value} (as published)"
    assert digest(wrong, look(wrong)) == f"{value} (published: 0123abcd...)"
    assert digest(own(tmp_path / "none"), Found("missing", "")) == ""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A folder as diffusers writes it."""
    parts = {"unet": ["diffusers", "UNet"], "vae": ["diffusers", "VAE"], "scheduler": ["diffusers", "DDIM"]}
    index = {"_class_name": "X", "safety_checker": ["x", "y"], "image_encoder": [None, None], **parts}
    folder = tmp_path / "model"
    for part in parts:
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text("{}")
    for part in ("unet", "vae"):
        save_weights(folder / part / "diffusion_pytorch_model.safetensors", STATE)
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def drop_part(folder: Path) -> None:
    for file in (folder / "vae").iterdir():
        file.unlink()


def cut(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:50])


def pickled(folder: Path) -> None:
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("harm", "state", "what"),
    [
        (lambda folder: None, "there", "unet, vae, scheduler"),
        (drop_part, "damaged", "lacks vae"),
        (cut, "damaged", "cannot be read: unet/diffusion_pytorch_model.safetensors"),
        (pickled, "damaged", "no safetensors; pickles are not read"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "damaged", "model_index.json cannot be read"),
        (lambda folder: (folder / "model_index.json").unlink(), "damaged", "neither model_index.json nor config.json"),
    ],
)
def test_a_folder_is_there_with_all_its_parts(
    pipeline: Path, harm: Callable[[Path], object], state: str, what: str
) -> None:
    harm(pipeline)
    found = look(own(pipeline, folder=True))
    assert found.state == state
    assert found.what.startswith(what)


def test_a_model_of_transformers_is_one_folder(tmp_path: Path) -> None:
    save_weights(tmp_path / "model.safetensors", STATE)
    (tmp_path / "config.json").write_text("{}")
    assert look(own(tmp_path, folder=True)).what == "config.json, safetensors"


def test_a_model_of_the_hub_is_looked_for_in_its_cache_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    need = Needed(("generator.model",), "nobody/nothing", True)
    assert look(need) == Found("missing", "")
    assert look(Needed(("generator.model",), "no folder, no id", True)) == Found("missing", "")
    kept = tmp_path / "models--nobody--nothing"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("abc")
    snapshot = kept / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    save_weights(snapshot / "model.safetensors", STATE)
    (snapshot / "config.json").write_text("{}")
    assert (look(need).state, look(need).path) == ("there", snapshot)


def test_the_table_marks_what_may_not_be_used_commercially(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_width", 250)
    turbo = next(public for public in CATALOGUE if public.choice == "diffusion")
    blip = next(public for public in CATALOGUE if public.choice == "captions")
    missing = Found("missing", "")
    rows = [Needed(("generator.model",), turbo.repository, True, turbo, True),
            Needed(("generator.captions",), "copied", True, blip, False)]  # fmt: skip
    show([(need, missing) for need in rows])
    first, second = (line for line in capsys.readouterr().out.splitlines() if "generator." in line)
    assert "Stability AI Non-Commercial Research Community" in first
    assert "NO COMMERCIAL USE" in first
    assert "6.94 GB" in first
    assert "BLIP, base, or another of its kind" in second
    assert "3469 M parameters" in first
    assert "M parameters" not in second  # of which the hub does not say how many
    assert "not known" in second
    assert "COMMERCIAL" not in second


def test_a_list_that_stands_in_many_places_is_looked_into_once(tmp_path: Path) -> None:
    """A file of 1 kB whose lists hold the one before twice stands for 2 to the power of 40 tensors."""
    nested: list[object] = [torch.ones(2), torch.ones(2)]
    for _ in range(40):
        nested = [nested, nested]
    torch.save({"a": nested}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert look(own(tmp_path / "w.pth")).what == "2 tensors"
    with pytest.raises(UserError, match=r"holds no state dict.* but: a$"):
        read_state(tmp_path / "w.pth", "here")
    require_readable(own(tmp_path / "w.pth"))

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gcl_custom.console import console
from gcl_custom.errors import UserError
from gcl_custom.recipe.file import load_recipe, shipped
from gcl_custom.weights import list_weights
from gcl_custom.weights.needed import needed
from gcl_custom.weights.state_dicts import save_weights


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights, no cache, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(console, "_width", 250)


@pytest.mark.parametrize("name", shipped("recipes"))
def test_every_shipped_recipe_says_what_it_lacks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    needs = needed(load_recipe(name))
    if not needs:
        list_weights.list_weights(name, [], False, False)
        assert "takes no weights from elsewhere" in capsys.readouterr().out
        return
    with pytest.raises(UserError, match=f"{len(needs)} of {len(needs)} weights (is|are) missing") as caught:
        list_weights.list_weights(name, [], False, False)
    out = capsys.readouterr().out
    for need in needs:
        assert need.given in out
        assert need.where in str(caught.value)
    assert f"gcl-custom weights {name} --download" in str(caught.value)


def test_weights_that_are_there_end_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_weights(tmp_path / "own.safetensors", {"a": torch.ones(2)})
    own = ["generator.tokenizer.weights=own.safetensors"]
    list_weights.list_weights("quickstart", own, False, True)
    out = capsys.readouterr().out
    assert "there: 1 tensor" in out
    assert "own.safetensors: SHA-256 " in out
    (tmp_path / "own.safetensors").write_text("no")
    with pytest.raises(UserError, match=r"own\.safetensors: cannot be read.*To get it anew: Put your own file"):
        list_weights.list_weights("quickstart", own, False, False)


def test_only_what_is_missing_is_fetched_and_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[str] = []

    def fetch(need: Any) -> None:
        fetched.append(need.given)
        save_weights(Path(need.given), {"a": torch.ones(2)})

    monkeypatch.setattr(list_weights, "fetch", fetch)
    (tmp_path / "weights").mkdir()
    sizes = "weights are missing or damaged"
    with pytest.raises(UserError, match=sizes):
        list_weights.list_weights("imagenet-noise", [], False, False)
    assert fetched == []
    save_weights(tmp_path / "weights" / "swav_800ep_pretrain.pth.tar", {"a": torch.ones(2)})
    with pytest.raises(UserError):  # what was fetched here is too small to be the real one
        list_weights.list_weights("imagenet-noise", [], True, False)
    assert fetched == ["weights/G_ema_best0.pth"]
    assert "may not be used commercially" in capsys.readouterr().out


def test_a_folder_with_a_pickle_alone_gets_its_safetensors_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = tmp_path / "blip"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    torch.save({"a": torch.ones(2), "b": torch.zeros(1)}, folder / "pytorch_model.bin")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\ndata: {root: x}\ngenerator: {name: diffusion, model: m, captions: blip}\n")
    (tmp_path / "m").mkdir()
    with pytest.raises(UserError, match=r"blip: only pytorch_model\.bin, which is not read.*--download"):
        list_weights.list_weights(str(recipe), [], False, False)
    with pytest.raises(UserError, match="1 of 2 weights is missing or damaged"):  # m, which is empty
        list_weights.list_weights(str(recipe), [], True, False)
    assert load_file(folder / "model.safetensors").keys() == {"a", "b"}

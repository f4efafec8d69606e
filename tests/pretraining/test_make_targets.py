"""The stage: what a frozen network sees in each training tile, and that pretraining learns to predict it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from planned_runs import finish
from safetensors.torch import load_file
from started_runs import LITE0, started_run
from token_runs import RECIPE, with_tokenizer
from torchvision.transforms import v2

from gcl_custom.errors import UserError
from gcl_custom.files import read_json
from gcl_custom.generator.token_store import Tokens
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import make_targets as module
from gcl_custom.pretraining.backbones import Enlarged
from gcl_custom.pretraining.make_targets import make_targets
from gcl_custom.pretraining.pretrain import pretrain
from gcl_custom.pretraining.targets import FEATURES
from gcl_custom.recipe.pretraining import PretrainSettings, TokenTargetsSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.weights.starts import packaged

TARGETS = {"name": "features", "size": 48}
OF_TOKENS = PretrainSettings(targets=TokenTargetsSettings(name="tokens"), source="raw")
PUBLIC = torchvision.transforms.Normalize([127 / 255] * 3, [128 / 255] * 3)


def features_of(run: Run) -> np.ndarray:
    found: np.ndarray = np.load(plan.targets(run).path / FEATURES)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    run = started_run(tmp_path_factory.mktemp("targets"), targets=TARGETS, method={"name": "distil"})
    make_targets(run)
    return run


def test_targets_are_the_features_of_enlarged_tiles(made: Run) -> None:
    """With timm's own network and torchvision's own resizing."""
    network = timm.create_model(LITE0, num_classes=0).eval()
    network.load_state_dict(packaged(LITE0, network))
    store = TileStore(plan.tiles(made).path)
    tiles = store.unit(store.read(store.index("train")))
    resize = v2.Resize(48, v2.InterpolationMode.BICUBIC, antialias=True)
    with torch.no_grad():
        expected = network(PUBLIC(resize(tiles).clamp(0, 1)))
    torch.testing.assert_close(torch.from_numpy(features_of(made)), expected, rtol=1e-3, atol=1e-3)


def test_another_network_may_teach(tmp_path: Path) -> None:
    """A ResNet-18 in a file; the backbone itself begins from nothing."""
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    weights = {"name": "file", "weights": str(tmp_path / "weights.pth"), "mean": [0.4], "std": [0.3]}
    targets = {"name": "features", "network": "resnet18", "weights": weights}
    run = started_run(tmp_path, backbone="test_resnet", start={"name": "none"}, targets=targets)
    make_targets(run)
    theirs.fc = torch.nn.Identity()
    store = TileStore(plan.tiles(run).path)
    with torch.no_grad():
        expected = theirs((store.unit(store.read(store.index("train"))) - 0.4) / 0.3)
    torch.testing.assert_close(torch.from_numpy(features_of(run)), expected, rtol=1e-3, atol=1e-3)
    before = plan.targets(run).fingerprint
    torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), tmp_path / "weights.pth")
    other = started_run(tmp_path, backbone="test_resnet", start={"name": "none"}, targets=targets)
    assert plan.targets(other).fingerprint != before, "other weights under the same name are noticed"


def test_an_interrupted_stage_makes_the_other_blocks_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 5)
    run = started_run(tmp_path, targets=TARGETS)
    make_targets(run)
    whole = features_of(run)
    shutil.rmtree(plan.targets(run).path)
    seen: list[int] = []
    forward = Enlarged.forward

    def stopping(self: Enlarged, tiles: torch.Tensor) -> torch.Tensor:
        seen.append(len(tiles))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return forward(self, tiles)

    monkeypatch.setattr(Enlarged, "forward", stopping)
    with pytest.raises(KeyboardInterrupt):
        make_targets(run)
    make_targets(run)
    np.testing.assert_array_equal(features_of(run), whole)
    assert sum(seen) == len(whole) + 5, "one block was begun twice"


def test_the_weight_of_the_loss_changes_no_target(made: Run) -> None:

    def changed(**targets: Any) -> Run:
        settings = made.recipe.pretrain.targets.model_copy(update=targets)
        pretrain = made.recipe.pretrain.model_copy(update={"targets": settings})
        return Run(made.path, made.recipe.model_copy(update={"pretrain": pretrain}))

    assert plan.targets(changed(weight=3.0)).fingerprint == plan.targets(made).fingerprint
    assert plan.pretrain(changed(weight=3.0), "gcl", 3).fingerprint != plan.pretrain(made, "gcl", 3).fingerprint
    assert plan.targets(changed(size=64)).fingerprint != plan.targets(made).fingerprint


def test_pretraining_learns_to_predict(made: Run) -> None:
    """With the method distil there is nothing else to learn."""
    longer = made.recipe.model_copy(update={"pretrain": made.recipe.pretrain.model_copy(update={"epochs": 6})})
    run = Run(made.path, longer)
    pretrain(run, "gcl", 3)
    folder = plan.pretrain(run, "gcl", 3).path
    rows = read_json(folder / "history.json")[1:]
    assert all(row["loss"] == row["targets"] for row in rows)
    assert rows[-1]["targets"] < rows[0]["targets"] - 0.3
    start = timm.create_model(LITE0, num_classes=0)
    start.load_state_dict(packaged(LITE0, start))
    after = load_file(folder / "backbone.safetensors")
    assert any(not torch.equal(value, after[name]) for name, value in start.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": {"name": "none"}, "method": {"name": "distil"}}, "learns targets alone: set targets"),
        ({"start": {"name": "none"}}, "needs a network with public weights"),
        ({"targets": {"name": "features", "network": "resnet18"}}, "needs weights: set targets.weights"),
        ({"targets": {"name": "features", "network": "resnet18", "weights": {"name": "package"}}},
         "targets.weights: package has weights for tf_efficientnet_lite0"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    values = {"backbone": LITE0, "start": {"name": "package"}, "targets": {"name": "features"}, **changes}
    with pytest.raises(ValueError, match=message):
        PretrainSettings.model_validate(values)


def test_targets_may_be_the_share_of_each_code_among_a_tiles_tokens(tmp_path: Path) -> None:
    run = with_tokenizer(tmp_path / "r", RECIPE.model_copy(update={"pretrain": OF_TOKENS}))
    make_targets(run)
    store = TileStore(plan.tiles(run).path)
    train = store.index("train")
    upright = Tokens(plan.tokens(run).path, store).read(train)[:, 0].flatten(1).numpy()
    counted = [np.bincount(tokens, minlength=8) / len(tokens) for tokens in upright]
    np.testing.assert_allclose(features_of(run), counted, atol=1e-7)
    assert len({tuple(row) for row in features_of(run).tolist()}) > 1


def test_targets_of_tokens_wait_for_the_tokenizer(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", RECIPE.model_copy(update={"pretrain": OF_TOKENS}))
    finish(plan.tiles(run))
    with pytest.raises(UserError, match=r"targets needs tokenizer.*Run: gcl-custom fit-generator"):
        make_targets(run)

"""The stage: what it leaves, exact resumption with every method, and that arms start alike."""

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
import timm
import torch
from pretraining_runs import (
    SMALL_HEADS,
    module_of,
    run_in,
    with_changes,
)
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cosine_similarity

from gcl_custom import __version__
from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import backbones, pretrain
from gcl_custom.pretraining.contrastive import Contrastive
from gcl_custom.pretraining.description import Description
from gcl_custom.pretraining.trained_backbone import network_of
from gcl_custom.recipe.methods import BarlowTwinsSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch
from gcl_custom.weights.state_dicts import read_metadata


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_in(tmp_path)


@pytest.mark.parametrize("changes", [{"source": "raw"}, {"source": "reconstructed"}, {"pairing": ["crop", "flip"]}])
def test_at_rate_0_batches_and_weights_are_the_same_whatever_stands_for_a_generative_view(
    run: Run, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained twice, since the plan, for which these keys do not count there, would take the first for the second."""
    seen: list[list[Tensor]] = []
    views = Contrastive.views

    def watched(self: Contrastive, batch: Batch) -> tuple[Tensor, ...]:
        seen[-1] += views(self, batch)
        return views(self, batch)

    monkeypatch.setattr(Contrastive, "views", watched)
    trained = []
    for settings in (with_changes(mixing_rate=0.0), with_changes(mixing_rate=0.0, **changes)):
        run.recipe = run.recipe.model_copy(update={"pretrain": settings})
        seen.append([])
        pretrain.pretrain(run, "gcl", 0)
        folder = plan.pretrain(run, "gcl", 0).path
        trained.append(load_file(folder / "backbone.safetensors"))
        shutil.rmtree(folder)
    assert len(seen[0]) == len(seen[1]) > 0
    assert all(map(torch.equal, *seen))
    assert all(torch.equal(weight, trained[1][name]) for name, weight in trained[0].items())


def test_the_stage_leaves_a_backbone_and_its_facts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain.pretrain(run, "paired", 1)
    stage = plan.pretrain(run, "paired", 1)
    assert stage.done
    network, _ = backbones.build("test_resnet", 3)
    network.load_state_dict(load_file(stage.path / "backbone.safetensors"))
    assert {"parameters", "loss", "invariance", "variance", "covariance"} < set(stage.facts)
    assert {"embedding_std", "effective_rank", "lidar", "knn"} < set(stage.facts)
    rows = json.loads((stage.path / "history.json").read_text())
    assert all({"effective_rank", "lidar"} < set(row) for row in rows)
    assert stage.facts["parameters"] == sum(weight.numel() for weight in network.parameters())
    assert list((stage.path / "pictures").glob("pairs-*.png"))
    monkeypatch.setattr(pretrain, "fit", lambda *_: pytest.fail("a finished stage is not run again"))
    pretrain.pretrain(run, "paired", 1)


def test_a_single_training_tile_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    index = TileStore.index
    monkeypatch.setattr(TileStore, "index", lambda store, split: index(store, split)[:1])
    with pytest.raises(UserError, match="has one training tile, and pretraining compares tiles"):
        pretrain.pretrain(run, "paired", 1)


def test_the_file_says_what_it_holds_and_is_the_same_twice(run: Run) -> None:
    """A reader of the file alone builds the network, whatever its stem."""
    run.recipe = run.recipe.model_copy(update={"pretrain": with_changes(stem="small")})
    written = []
    for _ in range(2):
        pretrain.pretrain(run, "paired", 1)
        path = plan.pretrain(run, "paired", 1).path / "backbone.safetensors"
        written.append(path.read_bytes())
        about = Description.read(read_metadata(path), "the file")
        network = about.built(load_file(path), "the file")
        expected, _ = network_of(run, plan.pretrain(run, "paired", 1), 3)
        shutil.rmtree(path.parent)
    assert written[0] == written[1]
    assert (about.network, about.stem, about.bands, about.size) == ("test_resnet", "small", 3, 16)
    assert (about.low, about.high, about.mean, about.version) == ([0.0] * 3, [255.0] * 3, None, __version__)
    assert about.band_names == ["red", "green", "blue"]
    tiles = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(tiles), expected.eval()(tiles))
        plain = timm.create_model("test_resnet", num_classes=0).eval()
        plain.load_state_dict(network.state_dict())
        assert cosine_similarity(plain(tiles), network(tiles)).min() < 0.99, "the stem makes no difference here"


def work(run: Run, killed_at: int | None) -> None:
    torch.set_num_threads(1)
    step = Contrastive.training_step

    def dying(self: Contrastive, batch: Batch) -> Tensor:
        if batch.step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch)

    Contrastive.training_step = dying  # type: ignore[method-assign]
    pretrain.pretrain(run, "paired", 0)


@pytest.mark.parametrize(("name", "pairs"), [*((name, 1) for name in SMALL_HEADS), ("swav", 3)])
def test_every_method_killed_in_mid_run_ends_with_the_same_weights(name: str, pairs: int, run: Run) -> None:
    """Teachers, centre, queue and prototypes included: whatever a method remembers is in the checkpoint."""
    settings = {"name": name, **SMALL_HEADS[name]}
    values = run.recipe.model_dump(mode="json")
    values["pretrain"] |= {
        "method": settings,
        "small_crops": {"count": 2, "size": 16},
        "generative_views": pairs,
        "batch": 3 * (1 + pairs),
    }
    values["views"] |= {"per_tile": 3}
    values["hardware"] |= {"checkpoint_minutes": 1e-9}
    recipe = Recipe.model_validate_json(json.dumps(values))
    for place, kills in (("whole", (None,)), ("killed", (2, 5, None))):
        shutil.copytree(run.path, run.path.parent / place)
        for killed_at in kills:
            here = Run(run.path.parent / place, recipe)
            process = multiprocessing.get_context("fork").Process(target=work, args=(here, killed_at))
            process.start()
            process.join()
            assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    whole, killed = (
        load_file(run.path.parent / place / "pretrain" / "paired-0" / "backbone.safetensors")
        for place in ("whole", "killed")
    )
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[key], killed[key]) for key in whole)
    start = module_of(run, settings=recipe.pretrain).backbone.state_dict()
    assert any(not torch.equal(whole[key], start[key]) for key in whole), "something was learnt"


def test_barlow_twins_that_overflows_stops(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Projections beyond fp32 at one step, in both views, with the real method's loss and gradient."""
    section = BarlowTwinsSettings(name="barlow_twins", projector=[16, 16])
    settings = with_changes(method=section)
    step = Contrastive.training_step

    def exploding(self: Contrastive, batch: Batch) -> Tensor:
        factor = 1e39 if batch.step == 3 else 1.0
        hook = self.method.projector.register_forward_hook(lambda *given: given[-1] * factor)
        loss = step(self, batch)
        hook.remove()
        return loss

    monkeypatch.setattr(Contrastive, "training_step", exploding)
    run.recipe = run.recipe.model_copy(update={"pretrain": settings})
    with pytest.raises(UserError, match=r"at step 3, so training stopped"):
        pretrain.pretrain(run, "paired", 0)
    kept = torch.load(plan.pretrain(run, "paired", 0).path / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_arms_of_a_seed_start_with_equal_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def stop(module: Contrastive, *_: object) -> None:
        started.append([weight.clone() for weight in module.parameters()])
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "fit", stop)
    for arm, seed in (("paired", 0), ("handcrafted", 0), ("handcrafted", 1)):
        with pytest.raises(KeyboardInterrupt):
            pretrain.pretrain(run, arm, seed)
    same, other = (all(map(torch.equal, started[0], started[i])) for i in (1, 2))
    assert same
    assert not other

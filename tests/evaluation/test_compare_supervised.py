import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scored_runs import COLOURS, draw, run_in
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from started_runs import started_run

from gcl_custom import console
from gcl_custom.errors import UserError
from gcl_custom.evaluation import compare_supervised, evaluate, score_backbone, scoring
from gcl_custom.evaluation.compare_supervised import choose_rate, train
from gcl_custom.evaluation.figures import Figure
from gcl_custom.evaluation.inference import labelled
from gcl_custom.files import read_json
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.tile_features import BandStatistics
from gcl_custom.pretraining import backbones, start
from gcl_custom.randomness import derive
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.reporting import score_tables
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.weights.state_dicts import load_weights, save_weights


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, without_training: Callable[..., Run]) -> Run:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("compare")
    draw(folder / "imagery")
    run = without_training(run_in(folder))
    compare_supervised.compare_supervised(run)
    return run


def scores_of(run: Run) -> dict[str, Any]:
    scores: dict[str, Any] = read_json(plan.compare(run).path / "scores.json")
    return scores


def test_every_arm_has_its_scores_for_every_seed(finished: Run) -> None:
    scores = scores_of(finished)["scores"]
    probes = {"linear", "linear_top5", "knn", "knn5", "shots@1", "shots@3", "probe@0.25"}
    assert {arm: set(found) for arm, found in scores.items()} == {
        "gcl": probes | {"finetune@0.25", "finetune@all"},
        "handcrafted": probes | {"finetune@0.25", "finetune@all"},
        "supervised": {"supervised@0.25", "supervised@all"},
        "untrained": probes,
        "statistics": probes,
        "patches": probes,
    }
    for arm, found in scores.items():
        seeds = {"every"} if arm in ("statistics", "patches") else {"3", "4"}
        assert all(set(score["seeds"]) == seeds for score in found.values())


def test_full_fine_tuning_has_the_tiles_and_the_steps_of_supervised_training_with_all_labels(finished: Run) -> None:
    tuned, supervised = (
        read_json(next((finished.path / kind).glob(f"{arm}-3-all-*")) / "stage.json")["settings"]
        for kind, arm in (("finetune", "gcl"), ("supervised", "supervised"))
    )
    same = ("labels", "epochs", "steps", "batch", "handcrafted", "seed")
    assert {key: tuned[key] for key in same} == {key: supervised[key] for key in same}
    assert (tuned["epochs"], tuned["steps"]) == (4, None)
    most = [
        read_json(next((finished.path / kind).glob("*-3-all-*")) / "predictions.json")["most_steps"]
        for kind in ("finetune", "supervised")
    ]
    assert most == [4 * (len(scoring.train_tiles(TileStore(plan.tiles(finished).path), "all", 3)) // 8)] * 2
    sentences = [c["sentence"] for c in scores_of(finished)["answers"]["Does GCL beat the supervised baseline?"]]
    assert sum("With all labels" in s and "GCL (fine-tuned)" in s for s in sentences) == 1


def test_scores_follow_from_the_kept_predictions(finished: Run) -> None:
    store = TileStore(plan.tiles(finished).path)
    truth = store.labels[labelled(store, "test")]
    kept = read_json(finished.path / "probes" / "gcl-3" / "probes.json")
    accuracy = (torch.tensor(kept["knn"]) == truth).double().mean().item()
    assert scores_of(finished)["scores"]["gcl"]["knn"]["seeds"]["3"] == pytest.approx(accuracy)
    assert accuracy > 0.8  # the colours tell the classes apart, even through random weights


def test_figures_with_few_labels_are_means_over_draws_that_are_the_same_for_all_arms(finished: Run) -> None:
    store = TileStore(plan.tiles(finished).path)
    truth = store.labels[labelled(store, "test")]
    kept = {
        name: read_json(finished.path / "probes" / name / "probes.json")
        for name in ("gcl-3", "handcrafted-3", "statistics")
    }
    for metric in ("shots@1", "shots@3", "probe@0.25"):
        said = torch.tensor(kept["gcl-3"][metric])
        assert said.shape == (2, len(truth))
        score = scores_of(finished)["scores"]["gcl"][metric]
        assert score["seeds"]["3"] == pytest.approx((said == truth).double().mean().item())
        assert scores_of(finished)["scores"]["statistics"][metric]["interval"] == "tiles"
    (one, three), (asked,) = (
        [
            c["sentence"]
            for c in scores_of(finished)["answers"]["Does GCL beat handcrafted augmentations only?"]
            if of in c["measure"]
        ]
        for of in ("a class", "Linear probe with 25 % of labels")
    )
    assert one.startswith("Linear probe with 1 label a class: ")
    assert three.startswith("Linear probe with 3 labels a class: ")
    assert "GCL" in asked
    # The statistics of a tile's bands, with the labels that the first draw has, by scikit-learn.
    train = labelled(store, "train")
    drawn = store.kind.shots(store.labels[train], 3, 0)
    x, test = (BandStatistics()(store.unit(store.read(i))) for i in (train, labelled(store, "test")))
    mean, deviation = x.double().mean(0), x.double().std(0, correction=0)
    theirs = LogisticRegression(C=1 / (18 * 12 * 1e-4), tol=1e-9, max_iter=10_000)
    theirs.fit((x[drawn] - mean) / deviation, store.labels[train][drawn])
    expected = theirs.predict((test - mean) / deviation)
    assert np.mean(expected == np.array(kept["statistics"]["shots@3"][0])) > 0.97  # but for ties


def test_learning_rate_is_chosen_with_the_first_seed_only(finished: Run) -> None:
    tried = sorted(path.name for path in (finished.path / "finetune").iterdir())
    chosen = {name: f"{rate:g}" for name, rate in scores_of(finished)["learning_rates"].items()}
    assert tried == sorted(
        f"{arm}-{seed}-{share}-{rate}"
        for arm in ("gcl", "handcrafted")
        for share in ("0.25", "all")
        for seed, rates in ((3, {"0.001", "0.01"}), (4, {chosen[f"{arm} finetune@{share}"]}))
        for rate in rates
    )


def test_best_validation_accuracy_wins_and_ties_go_to_the_lower_rate(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, figure = TileStore(plan.tiles(finished).path), Figure("gcl", "finetune@0.25")
    run = Run(finished.path, check_values(Recipe, _with_rates(finished, [1e-4, 1e-3, 1e-2]), "test"))
    for valid, best in (({1e-4: 0.5, 1e-3: 0.9, 1e-2: 0.7}, 1e-3), ({1e-4: 0.8, 1e-3: 0.9, 1e-2: 0.9}, 1e-3)):
        monkeypatch.setattr(compare_supervised, "train", lambda *given, valid=valid: {"valid": valid[given[-1]]})
        assert choose_rate(run, store, figure) == best


def _with_rates(run: Run, rates: list[float]) -> dict[str, Any]:
    values = run.recipe.model_dump()
    values["compare"]["learning_rates"] = rates
    return values


def test_same_labels_for_all_arms_of_a_seed(finished: Run) -> None:
    store = TileStore(plan.tiles(finished).path)
    first, again, other = (scoring.train_tiles(store, "0.25", seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert set(first.tolist()) <= set(labelled(store, "train").tolist())
    assert len(first) == scores_of(finished)["labels"]["0.25"]


def test_nothing_is_computed_twice_and_what_was_lost_comes_out_the_same(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = scores_of(finished)
    lost = finished.path / "finetune" / "gcl-3-0.25-0.001"
    (lost / "stage.json").unlink()
    (plan.compare(finished).path / "stage.json").unlink()
    fitted: list[str] = []
    fit = score_backbone.fit

    def counted(*given: Any) -> Any:
        fitted.append(given[2].name)
        return fit(*given)

    monkeypatch.setattr(score_backbone, "fit", counted)
    compare_supervised.compare_supervised(finished)
    assert fitted == ["finetune/gcl-3-0.25-0.001"]
    assert scores_of(finished) == before
    compare_supervised.compare_supervised(finished)
    assert len(fitted) == 1


def test_no_checkpoint_is_left_behind(finished: Run) -> None:
    assert not list(finished.path.rglob("*.ckpt"))


def test_fine_tuning_starts_at_the_pretrained_and_the_baseline_at_the_initial_weights(finished: Run) -> None:
    store = TileStore(plan.tiles(finished).path)
    torch.manual_seed(derive(3, "pretrain", "initial weights"))
    initial, _ = backbones.build("test_resnet", 3)
    tuned, _ = backbones.build("test_resnet", 3)
    load_weights(plan.pretrain(finished, "gcl", 3).path / "backbone.safetensors", tuned)
    for arm, wanted in (("gcl", tuned), ("supervised", initial), ("untrained", initial)):
        found, _ = compare_supervised._backbone(finished, store, arm, 3)
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), wanted.parameters(), strict=True))


def test_table_and_verdict_are_shown(finished: Run) -> None:
    with console.console.capture() as shown:
        compare_supervised.show(scores_of(finished))
    text = shown.get()
    assert text.count("top-5") == 2  # a column and the note
    assert "…" not in text, "no column is cut off"
    assert text.count("a class") >= 2, "one label a class, and three"
    assert "GCL" in text
    assert "divided at random" in text
    assert scores_of(finished)["verdict"] in text


def test_tiles_without_labels_are_refused_before_training(tmp_path: Path) -> None:
    draw(tmp_path / "imagery", 12, ("lake",))
    run = run_in(tmp_path)
    pack_tiles.pack_tiles(run)
    with pytest.raises(UserError, match="needs labels"):
        scoring.require_labels(run)


def test_a_training_of_its_own_settings_is_not_taken_for_another(finished: Run) -> None:
    """A changed budget leaves the fine-tuning stale, so it is refused instead of being mixed in."""
    values = json.loads(finished.recipe.model_dump_json()) | {}
    values["compare"]["finetune_steps"] = 5
    values["pretrain"]["handcrafted"] = finished.recipe.pretrain.handcrafted.model_dump()
    changed = Run(finished.path, check_values(Recipe, values, "test"))
    store = TileStore(plan.tiles(changed).path)
    with pytest.raises(UserError, match=r"steps: 3 -> 5"):
        train(changed, store, Figure("gcl", "finetune@0.25"), 3, 1e-3)


# ---------------------------------------------------------------- several labels a tile


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, without_training: Callable[..., Run]) -> Run:
    """Tiles whose left half is of one class and whose right half of another: two labels each, or one."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("several")
    (folder / "imagery").mkdir()
    rng, names = np.random.default_rng(0), sorted(COLOURS)[:4]
    rows = ["file,labels"]
    for i in range(72):
        left, right = rng.choice(names, 2)
        mean = np.repeat([[COLOURS[left]], [COLOURS[right]]], 8, axis=0).reshape(1, 16, 3)
        pixels = np.clip(rng.normal(np.repeat(mean, 16, axis=0), 30), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "imagery" / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,{left if left == right else f'{left};{right}'}")
    (folder / "imagery" / "labels.csv").write_text("\n".join(rows))
    run = run_in(folder, learning_rates=[1e-2], arms=["gcl", "supervised"], fractions=[0.25], supervised_epochs=1)
    data = run.recipe.data.model_copy(update={"labels": "labels.csv"})
    run = without_training(Run(run.path, run.recipe.model_copy(update={"data": data})))
    compare_supervised.compare_supervised(run)
    return run


def test_several_labels_are_scored_by_scikit_learns_map_from_what_is_kept(several: Run) -> None:
    store, scores = TileStore(plan.tiles(several).path), scores_of(several)
    truth = store.labels[labelled(store, "test")].numpy()
    assert truth.sum(1).max() == 2
    kept = {
        "linear": read_json(several.path / "probes" / "gcl-3" / "probes.json")["linear"],
        "knn": read_json(several.path / "probes" / "gcl-3" / "probes.json")["knn"],
        "finetune@0.25": read_json(several.path / "finetune" / "gcl-3-0.25-0.01" / "predictions.json")["test"],
    }
    for metric, given in kept.items():
        borne = truth.any(0)
        expected = average_precision_score(truth[:, borne], np.array(given)[:, borne], average="macro")
        assert scores["scores"]["gcl"][metric]["seeds"]["3"] == pytest.approx(expected)
    assert scores["scores"]["gcl"]["linear"]["mean"] > 0.7  # by chance about 0.45


def test_verdict_table_and_report_of_several_labels_speak_of_map(several: Run) -> None:
    scores = scores_of(several)
    assert (scores["measure"], scores["confusion"]) == ("mAP", {})
    assert "linear probe, mAP; 2 seeds" in scores["verdict"]
    assert "linear_top5" not in scores["scores"]["gcl"]
    assert not any(metric.startswith(("shots", "probe")) for metric in scores["scores"]["gcl"])
    with console.console.capture() as shown:
        compare_supervised.show(scores)
    assert "mAP (mean average precision" in shown.get()
    assert "Top-1" not in shown.get()
    report = score_tables.table(scores)
    assert "mAP (mean average precision over classes) in percent" in report
    assert "mAP on test tiles, %" in report  # along the axes of the plots
    assert "top-1" not in report
    assert "no matrix" in score_tables.confusions(scores)


def test_shares_of_several_labels_keep_every_class(several: Run) -> None:
    store = TileStore(plan.tiles(several).path)
    tiles = scoring.train_tiles(store, "0.25", 3)
    assert store.labels[tiles].any(0).all()
    assert len(tiles) == scores_of(several)["labels"]["0.25"] == round(0.25 * len(labelled(store, "train")))


def test_evaluate_compares_backbones_by_map_too(several: Run) -> None:
    evaluate.evaluate(several, ["a=untrained:test_resnet", "b=untrained:test_vit"], finetune=False)
    scores = read_json(several.path / "evaluate" / "scores.json")
    assert scores["measure"] == "mAP"
    floor = scores_of(several)["scores"]["untrained"]["linear"]
    assert scores["scores"]["a"]["linear"] == floor
    of_floors = ["Linear probe"] * 4  # two backbones, each with two floors
    assert [c["measure"] for c in scores["comparisons"]] == ["Linear probe", "kNN", "kNN, 5 neighbours", *of_floors]


def test_a_public_start_is_a_floor_and_the_supervised_baseline_begins_with_it(tmp_path: Path) -> None:
    run = started_run(tmp_path)
    compare = run.recipe.compare.model_copy(
        update={"arms": ["gcl", "supervised", "scratch"], "fractions": [0.5], "finetune_steps": 2}
    )
    run.recipe = run.recipe.model_copy(update={"compare": compare})
    store = TileStore(plan.tiles(run).path)
    torch.manual_seed(0)
    public = start.begun(run.recipe.pretrain, store)[0]
    for seed in (3, 4):
        stage = plan.pretrain(run, "gcl", seed)
        stage.begin()
        save_weights(stage.path / "backbone.safetensors", backbones.within(public))
        stage.finish()
    compare_supervised.compare_supervised(run)
    scores = scores_of(run)
    assert set(scores["scores"]) == {
        "gcl", "supervised", "scratch", "public", "untrained", "statistics", "patches",
    }  # fmt: skip
    assert set(scores["scores"]["scratch"]) == {"supervised@0.5", "supervised@all"}
    assert {"shots@1", "probe@0.5"} <= set(scores["scores"]["public"])
    assert sorted(path.name for path in (run.path / "probes").iterdir()) == [
        "gcl-3", "gcl-4", "patches", "public", "statistics", "untrained-3", "untrained-4",
    ]  # fmt: skip
    floor = scores["scores"]["public"]["knn"]
    assert floor["interval"] == "tiles"
    assert floor["mean"] == scores["scores"]["gcl"]["knn"]["seeds"]["4"], "nothing was trained here"
    (question,) = (text for text in scores["answers"] if "public weights" in text)
    assert scores["answers"][question][0]["outcome"] == "not shown"
    begun = compare_supervised._backbone(run, store, "supervised", 4)[0].state_dict()
    assert all(torch.equal(value, begun[name]) for name, value in public.state_dict().items())
    trained = {path.name: read_json(path / "stage.json")["settings"] for path in (run.path / "supervised").iterdir()}
    assert len(trained) == 8  # two arms, two seeds, half of the labels and all of them
    for name, settings in trained.items():
        assert ("SHA-256" in settings.get("pretrain.start", "")) == name.startswith("supervised-")
    initial = compare_supervised._backbone(run, store, "untrained", 4)[0].state_dict()
    scratch = compare_supervised._backbone(run, store, "scratch", 4)[0].state_dict()
    assert all(torch.equal(value, scratch[name]) for name, value in initial.items())
    (question,) = (text for text in scores["answers"] if "from nothing" in text)
    assert "the supervised baseline from nothing" in scores["answers"][question][0]["sentence"]

from typing import Any

import numpy as np
import pytest

from gcl_custom.evaluation.verdict import Figure, column_title, in_columns, summarise
from gcl_custom.measures.label_kinds import SINGLE_LABEL

TILES = 1000
LABELS = np.arange(TILES) % 4
CLASSES = ["a", "b", "c", "d"]


def result(seeds: int = 3, **linear: float) -> dict[str, Any]:
    """Arms with the given accuracies, a little different for each seed; wrong tiles go to the next class."""
    predictions = {}
    for arm, share in linear.items():
        metric = "supervised@all" if arm == "supervised" else "linear"
        shares = share + 0.002 * np.arange(seeds)[:, None]
        right = np.arange(TILES) < np.round(shares * TILES)
        predictions[Figure(arm, metric)] = np.where(right, LABELS, (LABELS + 1) % 4)
    return summarise(SINGLE_LABEL, predictions, LABELS, CLASSES, list(range(seeds)))


def test_scores_are_mean_and_interval_over_seeds() -> None:
    score = result(gcl=0.8)["scores"]["gcl"]["linear"]
    assert score["seeds"] == pytest.approx({"0": 0.8, "1": 0.802, "2": 0.804})
    assert score["mean"] == pytest.approx(0.802)
    assert score["high"] - score["mean"] == pytest.approx(4.302653 * 0.002 / 3**0.5)  # t(0.975, 2)


def test_top_5_counts_a_tile_as_right_where_its_class_is_among_the_five() -> None:
    ranked = np.stack([(LABELS + shift) % 8 for shift in range(1, 6)], axis=1)[None]
    ranked[0, : TILES // 4, 4] = LABELS[: TILES // 4]
    scores = summarise(
        SINGLE_LABEL,
        {Figure("gcl", "linear"): ranked[..., 0], Figure("gcl", "linear_top5"): ranked},
        LABELS,
        list("abcdefgh"),
        [0],
    )
    assert (scores["scores"]["gcl"]["linear"]["mean"], scores["scores"]["gcl"]["linear_top5"]["mean"]) == (0, 0.25)
    assert in_columns(scores["scores"])[0] == ["linear", "linear_top5"]


def test_of_one_seed_the_interval_is_wilsons_over_tiles() -> None:
    score = result(seeds=1, gcl=0.8)["scores"]["gcl"]["linear"]
    assert score["interval"] == "tiles"
    assert (score["low"], score["high"]) == pytest.approx((0.77409, 0.82361), abs=1e-4)


def test_confusion_is_summed_over_seeds() -> None:
    counts = np.array(result(gcl=0.8)["confusion"]["gcl linear"])
    assert counts.sum() == 3 * TILES
    assert np.trace(counts) == 800 + 802 + 804
    assert counts[0, 1] > 0
    assert counts[1, 0] == 0


def test_verdict_names_both_rivals_and_what_is_shown() -> None:
    verdict = result(gcl=0.9, handcrafted=0.8, supervised=0.901)["verdict"]
    assert "is better than handcrafted augmentations only" in verdict
    assert "is not shown to differ from the supervised baseline with all labels" in verdict
    assert "3 seeds, 1,000 test tiles" in verdict
    assert "is worse than the supervised baseline" in result(gcl=0.8, supervised=0.95)["verdict"]


def floored(floor: float, seeds: int = 3, **linear: float) -> dict[str, Any]:
    """The same with a floor that was computed once, a little above and below the arms on other tiles."""
    right = np.arange(TILES) < round(floor * TILES)
    once = {Figure("statistics", "linear"): np.where(right, LABELS, (LABELS + 1) % 4)[None]}
    figures = {}
    for arm, share in linear.items():
        shares = share + 0.002 * np.arange(seeds)[:, None]
        figures[Figure(arm, "linear")] = np.where(np.arange(TILES) < np.round(shares * TILES), LABELS, (LABELS + 1) % 4)
    return summarise(SINGLE_LABEL, figures | once, LABELS, CLASSES, list(range(seeds)))


def test_a_floor_has_one_score_and_its_interval_is_over_tiles() -> None:
    score = floored(0.8, gcl=0.9)["scores"]["statistics"]["linear"]
    assert (score["seeds"], score["interval"]) == ({"every": 0.8}, "tiles")
    assert (score["low"], score["high"]) == pytest.approx((0.77409, 0.82361), abs=1e-4)  # Wilson, of 1,000 tiles


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_verdict_begins_with_the_floor_that_no_arm_is_above(seeds: int) -> None:
    """With one seed, the interval over tiles decides alone."""
    low = floored(0.905, seeds, gcl=0.9, handcrafted=0.8)["verdict"]
    assert low.startswith(
        "This comparison cannot rank backbones: the statistics of each band reach 90.50\N{NO-BREAK SPACE}% without any "
        "network, and no arm's linear probe is shown to be better. GCL ("
    )
    for gcl, handcrafted in ((0.95, 0.8), (0.8, 0.95)):
        assert floored(0.905, seeds, gcl=gcl, handcrafted=handcrafted)["verdict"].startswith("GCL (")


def test_what_pretraining_has_learned_is_the_first_question() -> None:
    answers = floored(0.7, gcl=0.9, handcrafted=0.8, untrained=0.6)["answers"]
    first = next(iter(answers))
    assert first == "Has pretraining learned anything?"
    assert [c["theirs"] for c in answers[first]] == ["an untrained backbone", "the statistics of each band"]
    assert {c["outcome"] for c in answers[first]} == {"better"}


def test_gain_beyond_every_control_is_the_generators() -> None:
    cause = result(gcl=0.95, handcrafted=0.8, reconstructed=0.85, paired=0.8)["cause"]
    assert cause == "GCL is also better than every control, so the gain is the generator's."


def test_gain_that_a_control_shows_too_is_not_the_generators() -> None:
    cause = result(gcl=0.90, handcrafted=0.8, reconstructed=0.899, paired=0.8)["cause"]
    assert "the reconstructed control shows it too" in cause
    assert "a gain that a control shows too is not the generator's" in cause
    both = result(gcl=0.90, handcrafted=0.8, reconstructed=0.90, paired=0.91)["cause"]
    assert "the reconstructed control and the paired control show it too" in both


def test_gain_not_separated_from_a_control_stays_open() -> None:
    # Two tiles a seed are enough to be shown here, one is not.
    cause = result(gcl=0.802, handcrafted=0.8, paired=0.801)["cause"]
    assert cause == (
        "The gain is not shown to be the generator's: GCL is not shown to be better than the paired control."
    )


def test_no_gain_needs_no_cause() -> None:
    assert result(gcl=0.8, handcrafted=0.9, reconstructed=0.95)["cause"].startswith("No gain over handcrafted")
    assert "No control was trained" in result(gcl=0.9, handcrafted=0.8)["cause"]


def test_one_seed_shows_nothing() -> None:
    found = result(seeds=1, gcl=0.99, handcrafted=0.5, supervised=0.5)
    assert "is not shown to differ from" in found["verdict"]
    assert "better" not in found["verdict"]
    assert found["cause"].startswith("No gain over handcrafted augmentations is shown")


def test_sentences_name_the_labels_where_the_measures_differ() -> None:
    right, wrong = np.tile(LABELS, (2, 1)), np.tile((LABELS + 1) % 4, (2, 1))
    figures = {
        Figure("gcl", "linear"): right,
        Figure("gcl", "finetune@0.01"): right,
        Figure("supervised", "supervised@0.01"): wrong,
        Figure("supervised", "supervised@all"): wrong,
    }
    scores = summarise(SINGLE_LABEL, figures, LABELS, CLASSES, [0, 1])
    sentences = [c["sentence"] for c in scores["answers"]["Does GCL beat the supervised baseline?"]]
    assert sentences[0].startswith(
        "With all labels: GCL (linear probe) is better than the supervised baseline, +100.00"
    )
    assert sentences[1].startswith(
        "With 1 % of labels: GCL (fine-tuned) is better than the supervised baseline, +100.00"
    )


def test_figures_with_few_labels_are_means_over_draws_and_stand_between_probes_and_trainings() -> None:
    shares = np.array([[0.4, 0.6], [0.5, 0.7], [0.6, 0.8]])  # of three seeds and two draws
    said = np.where(np.arange(TILES) < shares[..., None] * TILES, LABELS, (LABELS + 1) % 4)
    linear = np.where(np.arange(TILES) < 0.9 * TILES, LABELS, (LABELS + 1) % 4)[None].repeat(3, axis=0)
    figures = {Figure("gcl", "linear"): linear, Figure("gcl", "finetune@0.1"): linear}
    figures |= {Figure("gcl", metric): said for metric in ("probe@0.1", "shots@10", "shots@5")}
    figures[Figure("public", "shots@5")] = said[:1]  # once for all seeds
    found = summarise(SINGLE_LABEL, figures, LABELS, CLASSES, [0, 1, 2])
    score = found["scores"]["gcl"]["shots@5"]
    assert score["seeds"] == pytest.approx({"0": 0.5, "1": 0.6, "2": 0.7})
    assert score["interval"] == "seeds"
    assert found["scores"]["public"]["shots@5"]["interval"] == "tiles"
    columns, table = in_columns(found["scores"])
    assert columns == ["linear", "shots@5", "shots@10", "probe@0.1", "0.1"]
    assert [column_title(column) for column in columns[1:]] == [
        "linear probe with 5 labels a class", "linear probe with 10 labels a class",
        "linear probe with 10 % of labels", "10 % of labels",
    ]  # fmt: skip
    assert table["gcl"]["probe@0.1"]["mean"] == pytest.approx(0.6)
    (question,) = (text for text in found["answers"] if "public weights" in text)
    (compared,) = found["answers"][question]
    assert compared["measure"] == "Linear probe with 5 labels a class"
    assert compared["difference"] == pytest.approx(0.1)


def test_supervision_from_nothing_is_a_question_of_its_own() -> None:
    found = result(gcl=0.9, supervised=0.8)
    assert not any("from nothing" in question for question in found["answers"])
    right = np.where(np.arange(TILES) < 0.9 * TILES, LABELS, (LABELS + 1) % 4)[None].repeat(3, axis=0)
    figures = {Figure("gcl", "linear"): right, Figure("scratch", "supervised@all"): right}
    found = summarise(SINGLE_LABEL, figures, LABELS, CLASSES, [0, 1, 2])
    (compared,) = found["answers"]["Does GCL beat supervised training from nothing?"]
    assert compared["theirs"] == "the supervised baseline from nothing"
    assert compared["measure"] == "With all labels"

from typing import Any

import numpy as np
import pytest

from gcl_custom.evaluation.curves import Training
from gcl_custom.evaluation.figures import Figure, column_title, in_columns
from gcl_custom.evaluation.verdict import summarise
from gcl_custom.measures.label_kinds import SINGLE_LABEL

TILES = 1000
LABELS = np.arange(TILES) % 4
CLASSES = ["a", "b", "c", "d"]


LONG: Training = {
    "valid": 0.8,
    "steps": 1000,
    "most_steps": 1000,
    "curve": [(250, 0.7), (500, 0.8), (750, 0.8), (1000, 0.8)],
    "valid_tiles": 500,
}
"""A training whose score has levelled off."""
SHORT: Training = LONG | {"curve": [(250, 0.3), (500, 0.5), (750, 0.7), (1000, 0.8)]}  # type: ignore[assignment]
"""One whose score still rises."""


def result(seeds: int = 3, training: Training = LONG, **linear: float) -> dict[str, Any]:
    """Arms with the given accuracies, a little different for each seed; wrong tiles go to the next class."""
    predictions = {}
    for arm, share in linear.items():
        metric = "supervised@all" if arm == "supervised" else "linear"
        shares = share + 0.002 * np.arange(seeds)[:, None]
        right = np.arange(TILES) < np.round(shares * TILES)
        predictions[Figure(arm, metric)] = np.where(right, LABELS, (LABELS + 1) % 4)
    trained = {Figure("supervised", "supervised@all"): [training] * seeds}
    return summarise(SINGLE_LABEL, predictions, LABELS, CLASSES, list(range(seeds)), trained)


def test_scores_are_mean_and_interval_over_five_seeds() -> None:
    score = result(seeds=5, gcl=0.8)["scores"]["gcl"]["linear"]
    assert score["seeds"] == pytest.approx({str(seed): 0.8 + 0.002 * seed for seed in range(5)})
    assert score["mean"] == pytest.approx(0.804)
    assert score["interval"] == "seeds"
    assert score["high"] - score["mean"] == pytest.approx(2.776445 * 0.002 * 2.5**0.5 / 5**0.5)  # t(0.975, 4)


def test_of_fewer_seeds_the_interval_is_over_tiles_and_the_verdict_says_what_they_can_show() -> None:
    found = result(seeds=2, gcl=0.8)
    score = found["scores"]["gcl"]["linear"]
    assert score["interval"] == "tiles"
    assert (score["low"], score["high"]) == pytest.approx((0.775, 0.825), abs=0.002)
    assert found["seeds_show"].startswith("2 seeds can show a difference only where it is more than 9.0 times")
    assert result(seeds=5, gcl=0.8)["seeds_show"] == ""


def test_a_baseline_that_was_not_trained_is_none() -> None:
    """It lies below an untrained backbone's probe, as 60 % below 90 % after seven steps."""
    found = result(gcl=0.95, supervised=0.6, untrained=0.9, training=LONG | {"steps": 7, "most_steps": 7})  # type: ignore[arg-type]
    assert "better than the supervised" not in found["verdict"]
    (ground,) = (text for text in found["grounds"] if "supervised" in text)
    assert ground.startswith(
        "The supervised baseline with all labels is not trained enough to compare: it reaches 60.2"
    )
    assert "did not get above the linear probe of an untrained backbone (90.2\N{NO-BREAK SPACE}%) in 7 steps" in ground
    (answer,) = found["answers"]["Does GCL beat the supervised baseline?"]
    assert answer["outcome"] == "not comparable"
    assert "is better than" not in answer["sentence"]


def test_a_baseline_that_still_learns_is_not_compared_with_either() -> None:
    found = result(gcl=0.95, supervised=0.8, untrained=0.6, training=SHORT)
    assert "supervised" not in found["verdict"]
    assert any("still raised its validation score by 30.0 points" in text for text in found["grounds"])
    settled = result(gcl=0.95, supervised=0.8, untrained=0.6)
    assert "is better than the supervised baseline with all labels (80.2" in settled["verdict"]
    assert not any("supervised" in text for text in settled["grounds"])


def test_a_baseline_that_is_better_in_spite_of_a_short_training_is_better() -> None:
    found = result(gcl=0.7, supervised=0.8, untrained=0.6, training=SHORT)
    assert "is worse than the supervised baseline" in found["verdict"]
    assert not any("supervised" in text for text in found["grounds"])


@pytest.mark.parametrize(
    ("gcl", "untrained", "ground"),
    [(0.9, 0.8, "Pretraining has learned something:"), (0.8, 0.9, "Pretraining has made the backbone worse:"),
     (0.8, 0.8, "Pretraining is not shown to have learned anything:")],
)  # fmt: skip
def test_the_first_ground_is_whether_pretraining_has_learned_anything(
    gcl: float, untrained: float, ground: str
) -> None:
    assert result(gcl=gcl, untrained=untrained)["grounds"][0].startswith(ground)


def test_with_a_public_start_pretraining_is_measured_by_it() -> None:
    (ground,) = result(gcl=0.8, public=0.9, untrained=0.3)["grounds"]
    assert ground.startswith("Pretraining has made the backbone worse")
    assert "that of the public start 90." in ground


def test_one_seed_says_what_it_seems_to_have_learned() -> None:
    (ground,) = result(seeds=1, gcl=0.9, untrained=0.3)["grounds"]
    assert ground.startswith("Pretraining seems to have learned something, but one seed cannot show it:")


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
def test_a_floor_that_no_arm_is_above_is_a_ground(seeds: int) -> None:
    """With one seed, the interval over tiles decides alone."""
    assert floored(0.905, seeds, gcl=0.9, handcrafted=0.8)["grounds"] == [
        "This comparison cannot rank backbones: the statistics of each band reach 90.5\N{NO-BREAK SPACE}% without any "
        "network, and no arm's linear probe is shown to be better."
    ]
    for gcl, handcrafted in ((0.95, 0.8), (0.8, 0.95)):
        assert floored(0.905, seeds, gcl=gcl, handcrafted=handcrafted)["grounds"] == []


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
    trained = {figure: [LONG] * 2 for figure in figures if figure.arm == "supervised"}
    scores = summarise(SINGLE_LABEL, figures, LABELS, CLASSES, [0, 1], trained)
    sentences = [c["sentence"] for c in scores["answers"]["Does GCL beat the supervised baseline?"]]
    assert sentences[0].startswith("With all labels: GCL (linear probe) is better than the supervised baseline, +100.0")
    assert sentences[1].startswith(
        "With 1 % of labels: GCL (fine-tuned) is better than the supervised baseline, +100.0"
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
    assert score["interval"] == "tiles"
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


def test_intervals_are_over_blocks_where_tiles_were_divided_by_them() -> None:
    """All tiles of a block are right or wrong together, so the interval is that of as many tiles as blocks."""
    right = np.repeat(np.random.default_rng(0).random(TILES // 10) < 0.8, 10)[None]
    said = {Figure("gcl", "linear"): np.where(right, LABELS, (LABELS + 1) % 4)}
    blocks = np.repeat(np.arange(TILES // 10), 10)
    found = summarise(SINGLE_LABEL, said, LABELS, CLASSES, [0], blocks=blocks)
    alone = summarise(SINGLE_LABEL, said, LABELS, CLASSES, [0])
    assert (found["test_blocks"], found["scores"]["gcl"]["linear"]["interval"]) == (TILES // 10, "blocks")
    assert "test_blocks" not in alone
    ours, theirs = (each["scores"]["gcl"]["linear"] for each in (found, alone))
    assert ours["high"] - ours["low"] == pytest.approx(10**0.5 * (theirs["high"] - theirs["low"]), rel=0.1)

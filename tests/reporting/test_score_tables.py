import re

import numpy as np
from evaluated_scores import EVALUATED

from gcl_custom.evaluation.figures import Figure
from gcl_custom.evaluation.verdict import summarise
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.reporting import score_tables


def test_given_backbones_are_shown_with_intervals_what_they_are_and_how_they_compare() -> None:
    shown = score_tables.evaluated(EVALUATED)
    (head,) = re.findall(r"<thead><tr><th></th>(<th class=\"number\">linear probe.*?)</tr>", shown)
    assert re.findall(r">([^<]+)</th>", head) == ["linear probe", "kNN", "trained with 10 % of labels: 45 tiles"]
    assert '<td class="number" data-of="linear probe">90.0<span class="range">88.0–92.0</span></td>' in shown
    assert shown.count(">–</td>") == 1  # the floor was not trained
    assert "1,234 test tiles of 2 classes. The split is the one that the folders give." in shown
    cells = '<td data-of="Weights">run:r</td><td data-of="Sees">unit tiles</td><td class="number" data-of="Seeds">0, 1'
    assert f'<th scope="row">ours</th>{cells}</td>' in shown
    assert "untrained:&lt;b&gt;x&lt;/b&gt;" in shown
    assert '<span class="badge not">not shown</span><span>No difference shown between ours &amp; floor.</span>' in shown
    assert "Compared" not in score_tables.evaluated(EVALUATED | {"comparisons": []})


def test_scores_of_several_labels_a_tile_are_called_map() -> None:
    assert "mAP (mean average precision over classes)" in score_tables.evaluated(EVALUATED | {"measure": "mAP"})


def confused(count: int) -> dict:
    counts = np.diag(np.full(count, 9))
    counts[0, 1] = 7
    classes = [f"class {i}" for i in range(count)]
    return {"measure": "top-1", "confusion": {"gcl linear": counts.tolist()}, "classes": classes, "seeds": [0]}


def test_warnings_and_grounds_stand_above_the_verdict() -> None:
    scores = {"warnings": ["maskgit: <b>noise</b>"], "grounds": ["Nothing was learned."], "verdict": "GCL is better."}
    shown = score_tables.verdict(scores | {"cause": "", "seeds_show": "2 seeds show little.", "split": ""})
    places = [shown.index(text) for text in ("maskgit: &lt;b&gt;", "Nothing was", "GCL is better", "2 seeds show")]
    assert places == sorted(places)


def test_the_curve_of_the_baseline_is_shown_and_those_of_shares_are_folded() -> None:
    training = {"curve": [[10, 0.5], [20, 0.75]]}
    shown = score_tables.trainings({"trainings": {"supervised supervised@all": [training, training]}})
    assert shown.count("<svg") == 1
    assert "<details" not in shown
    assert "validation score, all labels, %" in shown
    both = {"supervised supervised@all": [training], "gcl finetune@0.1": [training]}
    shown = score_tables.trainings({"trainings": both})
    assert shown.index("all labels, %") < shown.index("<details") < shown.index("10 % of labels, %")
    assert score_tables.trainings({"trainings": {}}) == ""


def test_few_seeds_stand_one_by_one_below_the_interval_over_tiles() -> None:
    labels = np.arange(400) % 2
    said = np.stack([np.where(np.arange(400) < right, labels, 1 - labels) for right in (300, 320)])
    rest = {"labels": {}, "split": "", "warnings": []}
    shown = score_tables.table(
        summarise(SINGLE_LABEL, {Figure("gcl", "linear"): said}, labels, ["a", "b"], [0, 1]) | rest
    )
    assert '77.5<span class="range">73.' in shown
    assert '<span class="range">seeds 75.0, 80.0</span>' in shown
    assert "over test tiles, and the scores of the 2 seeds one by one" in shown


def test_few_classes_are_a_matrix_shaded_by_the_share_of_the_row() -> None:
    shown = score_tables.confusions(confused(2))
    cells = re.findall(r'<td( class="true")? style="background:rgba\(var\(--heat\),([\d.]+)\)">(\d+)</td>', shown)
    assert [(bool(mark), int(count)) for mark, _, count in cells] == [(True, 9), (False, 7), (False, 0), (True, 9)]
    assert [float(shade) for _, shade, _ in cells] == [round(0.55 * share, 3) for share in (9 / 16, 7 / 16, 0, 1)]


def test_a_matrix_that_no_phone_shows_has_a_list_beside_it_for_phones() -> None:
    shown = score_tables.confusions(confused(10))
    assert '<div class="broad"><table class="confusion crowded">' in shown
    assert '<div class="narrow"><table>' in shown
    assert "narrow" not in score_tables.confusions(confused(3))


def test_many_classes_are_listed_by_their_commonest_confusion() -> None:
    shown = score_tables.confusions(confused(40))
    assert "The commonest confusions." in shown
    assert '<tr><td>class 0</td><td>class 1</td><td class="number">7</td></tr>' in shown
    assert "rgba" not in shown


def test_one_seed_is_said_to_have_an_interval_over_tiles() -> None:
    labels = np.arange(50) % 2
    figures = {Figure("gcl", "linear"): labels[None], Figure("gcl", "finetune@0.1"): labels[None]}
    rest = {"labels": {"0.1": 20}, "split": "", "warnings": []}
    scores = summarise(SINGLE_LABEL, figures, labels, ["a", "b"], [0]) | rest
    shown = score_tables.table(scores)
    assert "interval over test tiles (over tiles: Wilson)" in shown
    assert "trained with 10 % of labels: 20 tiles" in shown
    assert "93–100" in shown  # Wilson's interval of 50 right of 50, without decimals


def test_a_plot_over_shares_of_labels_needs_some() -> None:
    labels = np.arange(50) % 2
    figures = {Figure("gcl", "linear"): labels[None], Figure("gcl", "finetune@0.1"): labels[None]}
    for share, kept in (({}, {Figure("gcl", "linear"): labels[None]}), ({"0.1": 20}, figures)):
        scores = summarise(SINGLE_LABEL, kept, labels, ["a", "b"], [0]) | {"labels": share, "split": "", "warnings": []}
        assert ("With fewer labels" in score_tables.table(scores)) == bool(share)

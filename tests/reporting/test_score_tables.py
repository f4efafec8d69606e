import re

import numpy as np
from evaluated_scores import EVALUATED

from gcl_custom.evaluation.verdict import Figure, summarise
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.reporting import score_tables


def test_given_backbones_are_shown_with_intervals_what_they_are_and_how_they_compare() -> None:
    shown = score_tables.evaluated(EVALUATED)
    (head,) = re.findall(r"<thead><tr><th></th>(<th class=\"number\">linear probe.*?)</tr>", shown)
    assert re.findall(r">([^<]+)</th>", head) == ["linear probe", "kNN", "trained with 10 % of labels: 45 tiles"]
    assert '<td class="number">90.00<span class="range">88.00 – 92.00</span></td>' in shown
    assert shown.count('<td class="number soft">–</td>') == 1  # the floor was not trained
    assert "1,234 test tiles of 2 classes. The split is the one that the folders give." in shown
    assert '<th scope="row">ours</th><td>run:r</td><td>unit tiles</td><td class="number">0, 1</td>' in shown
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


def test_without_scores_there_is_only_the_advice() -> None:
    assert "There is no verdict yet." in score_tables.verdict(None)
    assert score_tables.table(None) + score_tables.answers(None) + score_tables.confusions(None) == ""


def test_few_classes_are_a_matrix_shaded_by_the_share_of_the_row() -> None:
    shown = score_tables.confusions(confused(2))
    cells = re.findall(r'<td( class="true")? style="background:rgba\(var\(--heat\),([\d.]+)\)">(\d+)</td>', shown)
    assert [(bool(mark), int(count)) for mark, _, count in cells] == [(True, 9), (False, 7), (False, 0), (True, 9)]
    assert [float(shade) for _, shade, _ in cells] == [round(0.55 * share, 3) for share in (9 / 16, 7 / 16, 0, 1)]


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
    assert "over test tiles (Wilson), one seed" in shown
    assert "trained with 10 % of labels: 20 tiles" in shown
    assert "92.87 – 100.00" in shown  # Wilson's interval of 50 right of 50


def test_a_plot_over_shares_of_labels_needs_some() -> None:
    labels = np.arange(50) % 2
    figures = {Figure("gcl", "linear"): labels[None], Figure("gcl", "finetune@0.1"): labels[None]}
    for share, kept in (({}, {Figure("gcl", "linear"): labels[None]}), ({"0.1": 20}, figures)):
        scores = summarise(SINGLE_LABEL, kept, labels, ["a", "b"], [0]) | {"labels": share, "split": "", "warnings": []}
        assert ("With fewer labels" in score_tables.table(scores)) == bool(share)

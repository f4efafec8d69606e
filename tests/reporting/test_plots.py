import re
import xml.etree.ElementTree as ET

from gcl_custom.reporting.plots import BROAD, NARROW, Line, Point, curves, forest, label_fractions

POINTS = [Point(0.01, 0.5, 0.4, 0.6), Point(1.0, 0.9, 0.88, 0.92)]


def texts(svg: str) -> list[str]:
    root = ET.fromstring(svg.replace("xlink:href", "href"))
    return ["".join(node.itertext()) for node in root.iter("text")]


def test_label_fractions_has_axes_units_and_legend() -> None:
    svg = label_fractions({"gcl": ("GCL & friends, fine-tuned", POINTS)}, {0.01: "1 %", 1.0: "all"}, "top-1, %")
    found = texts(svg)
    assert {"1 %", "all", "GCL & friends, fine-tuned", "top-1, %"} <= set(found)
    assert "share of the training labels (logarithmic)" in found


def test_forest_names_every_row_in_order() -> None:
    rows = [("gcl", "First", POINTS[0]._replace(seeds=(0.45, 0.55))), ("supervised", "Second", POINTS[1])]
    for form in (BROAD, NARROW):
        found = texts(forest(rows, "top-1, %", form))
        assert found.index("First") < found.index("Second")
        assert "top-1, %" in found


def test_a_plot_for_a_phone_is_half_as_wide_and_marks_every_seed() -> None:
    plain, seeds = ([("gcl", "First", POINTS[0]._replace(seeds=s))] for s in ((), (0.45, 0.55)))
    assert forest(seeds, "", NARROW).count("<use") == forest(plain, "", NARROW).count("<use") + 2
    lines = {"gcl": ("GCL", [POINTS[0]._replace(seeds=(0.45, 0.55))])}
    for draw in (lambda form: forest(seeds, "%", form), lambda form: label_fractions(lines, {0.01: "1 %"}, "%", form)):
        broad, narrow = (float(re.search(r'viewBox="0 0 ([\d.]+)', draw(form))[1]) for form in (BROAD, NARROW))  # type: ignore[index]
        assert narrow < 0.55 * broad


def test_a_history_of_one_epoch_is_a_visible_mark() -> None:
    single = curves("loss", [Line("x", "gcl", [1], [0.5])])
    assert single.count("<use") > curves("loss", [Line("x", "gcl", [1, 2], [0.5, 0.4])]).count("<use") - 2
    assert {"loss", "epoch"} <= set(texts(single))


def test_same_figures_make_the_same_plot_and_nothing_is_loaded() -> None:
    one, two = (curves("loss", [Line("x", "", [1, 2], [0.5, 0.4])]) for _ in range(2))
    assert one == two
    assert "http" not in one.replace("http://www.w3.org", "")
    assert "<metadata" not in one
    assert "#010203" not in one

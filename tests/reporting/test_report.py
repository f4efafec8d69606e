import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from complete_runs import complete, finish, made, scores
from cost_benefit_results import RESULTS
from evaluated_scores import EVALUATED

from gcl_custom.files import read_json, write_json
from gcl_custom.pictures import save_picture
from gcl_custom.reporting import report
from gcl_custom.runs import plan


class Checker(HTMLParser):
    """Tags that are closed in order, and every address that the page names."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = report.report(complete(made(tmp_path_factory.mktemp("runs"))))
    return path.read_text(encoding="utf-8")


def test_page_is_well_formed_and_names_nothing_outside_itself(page: str) -> None:
    checker = Checker(page)
    assert checker.open == []
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in checker.addresses)
    assert not re.search(r"url\((?!#)|@import", page)
    assert not checker.tags & {"script", "link", "iframe", "object"}


def test_text_of_the_run_is_escaped(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "data/&lt;b&gt;tiles&lt;/b&gt;" in page
    assert "The probe of &lt;i&gt;gcl&lt;/i&gt; did not converge." in page


def test_page_shows_verdict_scores_and_cost(page: str) -> None:
    expected = scores()
    assert expected["verdict"] in page
    score = expected["scores"]["gcl"]["linear"]
    assert f"{100 * score['mean']:.1f}" in page
    assert f"{100 * score['low']:.1f}–{100 * score['high']:.1f}" in page
    assert "trained with 1 % of labels: 45 tiles" in page
    assert "psnr 29.64" in page
    assert "25 min 00 s" in page
    assert "This run is not finished" not in page
    assert "abcdef" not in page


def test_warnings_are_collected_from_all_stages(page: str) -> None:
    assert "tokenizer: Only 12 % of the codes are used." in page
    assert "7 files could not be used" in page
    assert page.count("The representations are collapsing") == 1
    assert "pretrain/paired-2: The representations are collapsing" in page


def test_warnings_and_what_was_learned_stand_above_the_verdict(page: str) -> None:
    verdict = page.index('<p class="sentence">')
    assert page.index("tokenizer: Only 12 % of the codes are used.") < verdict
    assert page.index("Pretraining has learned something") < verdict
    assert page.index("The probe of &lt;i&gt;gcl&lt;/i&gt;") < verdict


def test_loss_curves_are_folded_and_the_page_says_how_to_load_the_backbone(page: str) -> None:
    training = page[page.index('id="training"') : page.index('id="cost"')]
    assert training.count("<details>") == 3
    assert training.index("<details>") < training.index("<svg")
    assert "gcl_custom.load(" in page
    assert "gcl-custom embed FOLDER --out representations.parquet --run trial" in page


def test_only_the_latest_picture_of_a_name_is_kept(page: str) -> None:
    assert page.count("data:image/png") == 2
    assert "what the tokenizer makes of them; epoch 10" in page


def test_plots_take_the_pages_colour(page: str) -> None:
    assert "#010203" not in page
    assert page.count("<svg") == 2 * 2 + 3 + 3 + 3 + 2  # two plots in two widths, and curves
    assert page.count("currentColor") > 20


def test_shares_of_the_cost_add_up(page: str) -> None:
    shares = [float(share) for share in re.findall(r'data-of="Share">([\d.]+) %</td>', page)]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares))


def test_unfinished_run_says_what_is_missing(tmp_path: Path) -> None:
    run = made(tmp_path)
    finish(plan.tiles(run))
    plan.tokenizer(run).begin()
    page = report.page(run)
    assert "This run is not finished." in page
    assert "tokenizer is unfinished; tokens is missing; maskgit is missing" in page
    assert "There is no verdict yet." in page


def test_outdated_output_is_called_so(tmp_path: Path) -> None:
    finish(plan.tiles(made(tmp_path)))
    other = made(tmp_path, data={"root": "data", "size": 128})
    assert report.state(plan.tiles(other)) == "outdated"
    assert "tiles is outdated" in report.page(other)


def test_the_table_of_augmentations_is_shown_where_there_is_one_and_called_outdated_where_it_is(tmp_path: Path) -> None:
    run = made(tmp_path)
    for make in (plan.tiles, plan.tokenizer, plan.tokens, plan.maskgit):
        finish(make(run))
    assert "What each augmentation" not in report.page(run)
    stage = plan.cost_benefit(run, 99)
    stage.begin()
    write_json(stage.path / "results.json", RESULTS)
    save_picture(stage.path / "augmentations.png", torch.rand(3, 2 * 66, 8 * 66))
    stage.finish()
    page = report.page(run)
    assert "from above: tiles, in-painting, p = 0.25</figcaption>" in page
    cells = r'<td class="number" data-of="[^"]+">123</td><td class="number" data-of="[^"]+">0.719</td>'
    assert re.search(rf'<th scope="row">in-painting, p = 0\.25</th>{cells}', page)
    assert "99 validation tiles of 64 px" in page
    assert Checker(page).open == []
    other = made(tmp_path, views={"mask_probability": 0.5})
    assert "made from other settings. Run: gcl-custom cost-benefit --redo" in report.page(other)


def test_scores_of_given_backbones_are_shown_on_the_tiles_that_they_are_of(tmp_path: Path) -> None:
    run = made(tmp_path)
    finish(plan.tiles(run), content="first")
    assert "Given backbones" not in report.page(run)
    found = EVALUATED | {"tiles": plan.tiles(run).output, "warnings": ["<i>ours</i> and floor: no seed in common."]}
    (run.path / "evaluate").mkdir()
    write_json(run.path / "evaluate" / "scores.json", found)
    page = report.page(run)
    assert "Given backbones, scored on these tiles" in page
    assert "<li>&lt;i&gt;ours&lt;/i&gt; and floor: no seed in common.</li>" in page
    assert 'data-of="linear probe">90.0<span class="range">88.0–92.0</span></td>' in page
    assert "This run is not finished" not in page, "an evaluation is no unfinished comparison"
    assert "Given backbones were scored on these tiles." in page
    assert Checker(page).open == []
    record = run.path / "tiles" / "stage.json"
    write_json(record, read_json(record) | {"facts": {"content": "of other files"}})
    remedy = "These scores are of other tiles. Run: gcl-custom evaluate --backbone=ours=run:r "
    assert remedy in report.page(run)


def test_synthetic_imagery_is_announced(tmp_path: Path) -> None:
    run = made(tmp_path, data={"root": "drawn", "synthetic": {}})
    assert "The imagery is synthetic." in report.page(run)
    assert "The imagery is synthetic." not in report.page(made(tmp_path))

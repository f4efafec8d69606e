import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cost_benefit_results import RESULTS
from evaluated_scores import EVALUATED

from gcl_custom.evaluation.verdict import Figure, summarise
from gcl_custom.files import read_json, write_json
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.pictures import save_picture
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.reporting import report
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

CLASSES = ["forest", "lake & river", "<script>alert(1)</script>"]
SKILL = {"gcl": 0.90, "handcrafted": 0.84, "reconstructed": 0.86, "paired": 0.85, "untrained": 0.5}
SEEDS = [0, 1, 2]


def made(tmp_path: Path, **changes: Any) -> Run:
    values = {"name": "trial", "data": {"root": "data/<b>tiles</b>", "size": 64}, **changes}
    return Run(tmp_path / "trial", check_values(Recipe, values, "test"))


def finish(stage: Stage, seconds: float = 60.0, **facts: Any) -> None:
    stage.begin()
    write_json(stage.path / "working.json", read_json(stage.path / "working.json") | {"seconds": seconds})
    stage.finish(**facts)


def predictions(labels: np.ndarray) -> dict[Figure, np.ndarray]:
    rng = np.random.default_rng(0)

    def guess(skill: float) -> np.ndarray:
        wrong = rng.random((len(SEEDS), len(labels))) > skill
        return np.where(wrong, (labels + 1 + (rng.random(wrong.shape) < 0.3)) % len(CLASSES), labels)

    figures = {Figure(arm, metric): guess(skill) for arm, skill in SKILL.items() for metric in ("linear", "knn")}
    for share, less in (("0.01", 0.25), ("0.1", 0.1)):
        figures |= {Figure(arm, f"finetune@{share}"): guess(SKILL[arm] - less) for arm in list(SKILL)[:4]}
        figures[Figure("supervised", f"supervised@{share}")] = guess(0.8 - 1.3 * less)
    figures[Figure("supervised", "supervised@all")] = guess(0.89)
    return figures


def scores() -> dict[str, Any]:
    labels = np.arange(1500) % len(CLASSES)
    made = summarise(SINGLE_LABEL, predictions(labels), labels, CLASSES, SEEDS)
    made["labels"] = {"0.01": 45, "0.1": 450, "all": 4500}
    made["split"] = "The split is the one that the folders give."
    return made | {"warnings": ["The probe of <i>gcl</i> did not converge."], "learning_rates": {}}


def complete(run: Run) -> Run:
    """A run folder as finished stages would leave it, with drawn-up figures."""
    rng = np.random.default_rng(1)
    finish(plan.tiles(run), 4, tiles={"train": 4500}, bands=3, split="random", content="abcdef", unusable=7)
    for stage, seconds in ((plan.tokenizer(run), 900), (plan.tokens(run), 30), (plan.maskgit(run), 1500)):
        finish(stage, seconds, psnr=29.64321, warnings=["Only 12 % of the codes are used."])
        history = [
            {"epoch": e, "loss": 3 / e + 0.1 * rng.random(), "used codes": 1 - 1 / e}
            | ({"psnr": 20 + e} if e % 2 else {})
            for e in range(1, 21)
        ]
        write_json(stage.path / "history.json", history)
    (run.path / "tokenizer" / "pictures").mkdir()
    for epoch in (2, 10):
        picture = torch.rand(3, 2 * 66, 8 * 66, generator=torch.Generator().manual_seed(epoch))
        save_picture(run.path / "tokenizer" / "pictures" / f"reconstructions-{epoch:05d}.png", picture)
    finish(plan.views(run), 240)
    save_picture(run.path / "views" / "views.png", torch.rand(3, 3 * 66, 8 * 66))
    if arms.needs_reconstructions(run.recipe):
        finish(plan.reconstructions(run), 60)
    for arm, seed in arms.pretrainings(run.recipe):
        stage = plan.pretrain(run, arm, seed)
        finish(stage, 600, embedding_std=0.001 if (arm, seed) == ("paired", 2) else 0.7, effective_rank=40.0)
        rows = [{"epoch": e, "loss": 25 / e + rng.random(), "rank": 10.0 * e} for e in range(1, 13)]
        write_json(stage.path / "history.json", rows)
        finish(run.stage(f"probes/{arm}-{seed}", {}), 20)
    finish(run.stage("finetune/gcl-0-0.01-0.001", {}), 200)
    comparison = plan.compare(run)
    comparison.begin()
    write_json(comparison.path / "scores.json", scores())
    comparison.finish()
    return run


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
    assert f"{100 * score['mean']:.2f}" in page
    assert f"{100 * score['low']:.2f} – {100 * score['high']:.2f}" in page
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


def test_only_the_latest_picture_of_a_name_is_kept(page: str) -> None:
    assert page.count("data:image/png") == 2
    assert "what the tokenizer makes of them; epoch 10" in page


def test_plots_take_the_pages_colour(page: str) -> None:
    assert "#010203" not in page
    assert page.count("<svg") == 2 + 3 + 3 + 2
    assert page.count("currentColor") > 20


def test_shares_of_the_cost_add_up(page: str) -> None:
    shares = [float(share) for share in re.findall(r'<td class="number">([\d.]+) %</td>', page)]
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
    assert '<th scope="row">in-painting, p = 0.25</th><td class="number">123</td><td class="number">0.719</td>' in page
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
    assert '<th scope="row">ours</th><td class="number">90.00<span class="range">88.00 – 92.00</span></td>' in page
    assert Checker(page).open == []
    record = run.path / "tiles" / "stage.json"
    write_json(record, read_json(record) | {"facts": {"content": "of other files"}})
    assert "These scores are of other tiles. Run: gcl-custom evaluate" in report.page(run)


def test_synthetic_imagery_is_announced(tmp_path: Path) -> None:
    run = made(tmp_path, data={"root": "drawn", "synthetic": {}})
    assert "The imagery is synthetic." in report.page(run)
    assert "The imagery is synthetic." not in report.page(made(tmp_path))

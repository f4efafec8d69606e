"""The page in a real browser, as wide as a phone and as a screen."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from complete_runs import complete, made

from gcl_custom.evaluation.scoring import probed_metrics
from gcl_custom.files import write_json
from gcl_custom.reporting import report
from gcl_custom.runs import plan

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
WIDTHS = (390, 1280)

# The page stands in a frame of the wanted width, since no window of a browser is as narrow as a phone. What the script
# finds is written into the document, which the browser prints.
HARNESS = """<!doctype html><meta charset="utf-8"><body style="margin:0"><pre id="found"></pre>
<iframe id="frame" style="border:0;width:WIDTHpx;height:3000px"></iframe>
<script>
const frame = document.getElementById("frame");
frame.onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  page.querySelectorAll("details").forEach(fold => fold.open = true);
  const elements = [...page.body.querySelectorAll("*")].filter(e => !e.closest("svg") || e.tagName === "svg");
  const name = e => `${e.tagName}.${e.className} ${(e.textContent || "").slice(0, 60)}`;
  const shown = elements.filter(e => e.getClientRects().length);
  document.getElementById("found").textContent = JSON.stringify({
    width: page.documentElement.clientWidth,
    whole: page.documentElement.scrollWidth,
    beyond: shown.filter(e => e.getBoundingClientRect().right > page.documentElement.clientWidth + 0.5).map(name),
    cut: shown.filter(e => view.getComputedStyle(e).overflowX !== "visible"
      && e.scrollWidth > e.clientWidth + 1).map(name),
    requests: view.performance.getEntriesByType("resource").map(e => e.name),
    active: page.querySelectorAll("script, link, iframe, object, embed, form").length,
    bold: page.querySelectorAll("header b").length,
    svgs: shown.filter(e => e.tagName === "svg").length,
    text: page.body.innerText,
  });
};
frame.src = "PAGE";
</script>
"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"a browser: none of {', '.join(BROWSERS)} is installed")


def opened(page: Path, width: int) -> dict[str, Any]:
    """What a browser shows of a page at a width; its console must stay empty."""
    assert BROWSER is not None
    harness = page.with_name(f"harness-{width}.html")
    harness.write_text(HARNESS.replace("WIDTH", str(width)).replace("PAGE", page.name), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
               "--allow-file-access-from-files", "--disable-extensions", "--disable-background-networking",
               "--no-first-run", f"--user-data-dir={page.parent / 'profile'}", f"--window-size={max(width, 600)},3000",
               "--virtual-time-budget=10000", "--enable-logging=stderr", "--dump-dom"]  # fmt: skip
    done = subprocess.run([BROWSER, *options, harness.as_uri()], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert ":CONSOLE" not in done.stderr, done.stderr
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[:500] + done.stderr
    seen: dict[str, Any] = json.loads(unescape(found))
    return seen


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.report(complete(made(tmp_path_factory.mktemp("finished"))))


@pytest.fixture(scope="module")
def with_tiles(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Any]) -> Path:
    """An unfinished run of real tiles: confusions and neighbours are shown as pictures."""
    run = make_run(tmp_path_factory.mktemp("tiles"))
    stage = plan.probe(run, "gcl", run.recipe.compare.seeds[0])
    stage.begin()
    store = report.examples.TileStore(plan.tiles(run).path)
    said = [0] * int((store.has_label & (store.split == 2)).sum())
    metrics = probed_metrics(run.recipe.compare, store.kind, len(store.classes))
    kept = {metric: [said] * run.recipe.compare.draws if "@" in metric else said for metric in metrics}
    write_json(stage.path / "probes.json", kept)
    stage.finish()
    return report.report(run)


def fits(seen: dict[str, Any], width: int) -> None:
    nothing: dict[str, Any] = {"beyond": [], "cut": [], "requests": [], "active": 0}
    expected = {"width": width, "whole": width, **nothing}
    assert {key: seen[key] for key in expected} == expected


@pytest.mark.parametrize("width", WIDTHS)
def test_a_finished_page_fits_asks_for_nothing_and_shows_names_as_text(finished: Path, width: int) -> None:
    seen = opened(finished, width)
    fits(seen, width)
    assert seen["bold"] == 0
    assert "data/<b>tiles</b>" in seen["text"]
    assert "<script>alert(1)</script>" in seen["text"]
    assert "The probe of <i>gcl</i> did not converge." in seen["text"]
    assert seen["svgs"] == 2 + 3 + 3 + 3 + 2, "each plot in the width that fits"


@pytest.mark.parametrize("width", WIDTHS)
def test_an_unfinished_page_with_tiles_fits_too(with_tiles: Path, width: int) -> None:
    seen = opened(with_tiles, width)
    fits(seen, width)
    assert "There is no verdict yet." in seen["text"]
    assert "Nearest neighbours" in seen["text"]
    assert "taken for" in seen["text"]

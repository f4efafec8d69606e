"""Studies: the grid, the checks before anything runs, and stages that are made once for all cells."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from gcl_custom.errors import Busy, DoneMeanwhile, RecipeError
from gcl_custom.recipe.file import load_recipe, shipped
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run, open_run
from gcl_custom.runs.stage import Pool, Stage
from gcl_custom.runs.study import Grid, commands, compared, load_study, run_cells

RECIPE = "data: {root: tiles}\ncompare: {seeds: [0], arms: [gcl]}\n"
STUDY = """
recipe: mine.yaml
settings: {pretrain.epochs: 4, compare.fractions: []}
grid:
  views.mask_probability: [0.25, 0.5]
  method:
    plain: {}
    slow: {pretrain.method.name: byol, pretrain.optimizer.learning_rate: 1e-3}
baseline: {method: plain}
"""


def study(folder: Path, text: str = STUDY, **options: object) -> Grid:
    (folder / "mine.yaml").write_text(RECIPE)
    (folder / "grid.yaml").write_text(text)
    return load_study(folder / "grid.yaml", folder / "runs", **options)  # type: ignore[arg-type]


def work(stage: Stage, log: list[str]) -> None:
    """What every stage does: nothing where it is done, else its work."""
    if stage.done:
        return
    stage.begin()
    log.append(stage.name)
    stage.finish()


def everything(run: Run, log: list[str]) -> None:
    for stage in plan.stages(run):
        work(stage, log)


def test_every_combination_is_a_cell_with_its_recipe(tmp_path: Path) -> None:
    grid = study(tmp_path)
    assert [cell.name for cell in grid.cells] == [
        "mask_probability=0.25,method=plain",
        "mask_probability=0.25,method=slow",
        "mask_probability=0.5,method=plain",
        "mask_probability=0.5,method=slow",
    ]
    recipes = [cell.run.recipe for cell in grid.cells]
    assert [r.views.mask_probability for r in recipes] == [0.25, 0.25, 0.5, 0.5]
    assert [r.pretrain.method.name for r in recipes] == ["vicreg", "byol", "vicreg", "byol"]
    assert {r.pretrain.epochs for r in recipes} == {4}
    assert grid.baseline_of(grid.cells[3]) is grid.cells[2]
    assert grid.baseline_of(grid.cells[2]) is None


def test_overrides_hold_for_every_cell_but_not_for_an_axis(tmp_path: Path) -> None:
    assert {c.run.recipe.data.size for c in study(tmp_path, overrides=["data.size=64"]).cells} == {64}
    with pytest.raises(RecipeError, match=r"mask_probability.*is an axis"):
        study(tmp_path, overrides=["views.mask_probability=0.3"])


def test_a_cell_is_a_run_whose_stages_are_the_studys(tmp_path: Path) -> None:
    grid = study(tmp_path)
    run_cells(grid, None, lambda run: everything(run, []))
    for cell in grid.cells:
        opened = open_run(tmp_path / "runs", None, f"{grid.path.name}/cells/{cell.name}")
        assert opened.recipe == cell.run.recipe
        assert [stage.path for stage in plan.stages(opened)] == [stage.path for stage in plan.stages(cell.run)]
        assert all(stage.done for stage in plan.stages(opened))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "recipe: mine.yaml\ngrid: {views.mask_probability: [0.5, 1.5]}\n",
            r"cell mask_probability=1\.5.*less than or",
        ),
        ("recipe: mine.yaml\ngrid: {views.mask: [0.5]}\n", r"cell mask=0\.5.*views\.mask: unknown key"),
        ("recipe: mine.yaml\ngrid: {seed: [1]}\nbaseline: {sed: 1}\n", "sed, which is no axis"),
        ("recipe: mine.yaml\ngrid: {seed: [1]}\nbaseline: {seed: 2}\n", "seed has no value 2"),
        ("recipe: mine.yaml\ngrid: {seed: []}\n", "grid"),
        ("recipe: mine.yaml\ngrid: {seed: [1, 2, 1]}\n", "values of seed must not repeat"),
        ("recipe: other\ngrid: {seed: [1]}\n", "no recipe file other"),
    ],
)
def test_mistakes_are_found_before_anything_runs(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        study(tmp_path, text)
    assert not (tmp_path / "runs").exists()


def test_a_stage_that_cells_share_is_made_once(tmp_path: Path) -> None:
    grid, log = study(tmp_path), list[str]()
    run_cells(grid, None, lambda run: everything(run, log))
    counts = {name: log.count(name) for name in log}
    assert counts == {
        "tiles": 1, "tokenizer": 1, "tokens": 1, "maskgit": 1, "views": 2, "pretrain/gcl-0": 4, "compare": 4,
    }  # fmt: skip
    run_cells(study(tmp_path), None, lambda run: everything(run, log))
    assert len(log) == sum(counts.values()), "a finished study does nothing"


def test_pretraining_without_generative_views_is_shared_by_all_mask_probabilities(tmp_path: Path) -> None:
    grid, log = study(tmp_path, STUDY.replace("settings: {", "settings: {pretrain.mixing_rate: 0.0, ")), list[str]()
    run_cells(grid, None, lambda run: everything(run, log))
    assert log.count("pretrain/gcl-0") == 2, "one for each method"
    assert log.count("compare") == 2


def test_without_generative_views_one_pretraining_serves_every_source_and_pairing(tmp_path: Path) -> None:
    text = """
recipe: mine.yaml
settings: {compare.fractions: []}
grid:
  pretrain.source: [inpainted, reconstructed, raw]
  pretrain.pairing: [[], [crop]]
  pretrain.mixing_rate: [0.0, 0.5]
"""
    grid, log = study(tmp_path, text), list[str]()
    run_cells(grid, None, lambda run: everything(run, log))
    assert log.count("pretrain/gcl-0") == 1 + 6
    assert log.count("compare") == 1 + 6


REPLICATED = """
recipe: mine.yaml
settings: {compare.fractions: []}
seeds: [3, 5]
grid:
  second_view:
    raw: {pretrain.source: raw}
    inpainted: {}
    mean: {views.fill: mean}
baseline: {second_view: raw}
"""


def test_with_seeds_each_cell_is_a_run_for_each_of_them(tmp_path: Path) -> None:
    grid = study(tmp_path, REPLICATED)
    assert [cell.name for cell in grid.cells] == ["second_view=raw", "second_view=inpainted", "second_view=mean"]
    names = [f"{cell.name},seed={seed}" for seed in (3, 5) for cell in grid.cells]
    assert [run.path.name for run in grid.runs] == names, "all cells with one seed before the next"
    for cell in grid.cells:
        assert cell.seeds == [3, 5]
        assert [(run.recipe.seed, run.recipe.compare.seeds) for run in cell.runs] == [(3, [3]), (5, [5])]
    assert [line.split()[4] for line in commands(grid, "grid.yaml", [], tmp_path)] == names
    assert grid.baseline_of(grid.cells[2]) is grid.cells[0]


def test_each_seed_has_a_generator_that_its_cells_share_and_the_tiles_of_all(tmp_path: Path) -> None:
    grid, log = study(tmp_path, REPLICATED), list[str]()
    run_cells(grid, "second_view=mean,seed=5", lambda run: everything(run, log))
    assert [[compared(run) for run in cell.runs] for cell in grid.cells] == [[False] * 2, [False] * 2, [False, True]]
    run_cells(study(tmp_path, REPLICATED), None, lambda run: everything(run, log))
    counts = {name: log.count(name) for name in log}
    assert counts == {
        "tiles": 1, "tokenizer": 2, "tokens": 2, "maskgit": 2, "views": 4, "pretrain/gcl-3": 3, "pretrain/gcl-5": 3,
        "compare": 6,
    }  # fmt: skip
    grid = study(tmp_path, REPLICATED)
    assert all(cell.done for cell in grid.cells)
    assert len({plan.tiles(run).path for run in grid.runs}) == 1
    assert len({plan.tokenizer(run).path for run in grid.runs}) == 2
    with pytest.raises(RecipeError, match=r"no cell 'second_view=noise'(?s:.*)second_view=raw,seed=3"):
        run_cells(grid, "second_view=noise", lambda run: None)


def test_a_cell_without_a_seed_is_all_of_its_runs(tmp_path: Path) -> None:
    grid, log = study(tmp_path, REPLICATED), list[str]()
    run_cells(grid, "second_view=raw", lambda run: everything(run, log))
    assert [cell.done for cell in grid.cells] == [True, False, False]
    assert log.count("compare") == 2


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("settings: {seed: 1}\ngrid: {pretrain.epochs: [1]}", "seed"),
        ("settings: {compare: {seeds: [1], arms: [gcl]}}\ngrid: {pretrain.epochs: [1]}", r"compare\.seeds"),
        ("grid: {seed: [0, 1]}", "seed"),
        ("grid: {repeat: {a: {compare.seeds: [1]}}}", r"compare\.seeds"),
    ],
)
def test_nothing_but_the_seeds_sets_the_seed(tmp_path: Path, change: str, key: str) -> None:
    study(tmp_path, f"recipe: mine.yaml\n{change}\n")
    with pytest.raises(RecipeError, match=f"seeds set {key} of each run. Take {key} out of settings and grid"):
        study(tmp_path, f"recipe: mine.yaml\nseeds: [0, 1]\n{change}\n")


def test_seeds_are_not_overridden_and_do_not_repeat(tmp_path: Path) -> None:
    study(tmp_path, overrides=["seed=7"])
    for override, key in (
        ("seed=7", "seed"),
        ("compare.seeds=[7]", "compare.seeds"),
        ("compare={seeds: [7]}", "compare.seeds"),
    ):
        with pytest.raises(RecipeError, match=rf"the seeds of the study set {key}\. Change them in .*grid\.yaml"):
            study(tmp_path, REPLICATED, overrides=[override])
    study(tmp_path, REPLICATED, overrides=["compare={arms: [gcl]}"])
    with pytest.raises(RecipeError, match="seeds must not repeat"):
        study(tmp_path, REPLICATED.replace("[3, 5]", "[3, 3]"))


def test_one_cell_alone_and_a_wrong_name(tmp_path: Path) -> None:
    grid, log = study(tmp_path), list[str]()
    run_cells(grid, grid.cells[1].name, lambda run: everything(run, log))
    assert log.count("pretrain/gcl-0") == 1
    with pytest.raises(RecipeError, match=r"no cell 'x'(?s:.*)mask_probability=0\.5,method=slow"):
        run_cells(grid, "x", lambda run: None)


def test_each_cell_has_a_command(tmp_path: Path) -> None:
    lines = commands(study(tmp_path), "grid.yaml", ["data.root=my tiles"], tmp_path)
    assert lines[0] == (
        "gcl-custom study grid.yaml --cell mask_probability=0.25,method=plain "
        f"--set 'data.root=my tiles' --runs {tmp_path}"
    )


def test_a_run_of_the_recipe_lends_what_fits_and_keeps_it(tmp_path: Path) -> None:
    grid, log = study(tmp_path), list[str]()
    lender = Run(tmp_path / "runs" / "mine", load_recipe(tmp_path / "mine.yaml"))
    everything(lender, log)
    log.clear()

    def job(run: Run) -> None:
        for number in range(len(plan.stages(run))):
            while True:  # as the command line does
                try:
                    work(plan.stages(run)[number], log)
                    break
                except DoneMeanwhile:
                    continue

    run_cells(grid, None, job)
    assert set(log) == {"views", "pretrain/gcl-0", "compare"}
    assert log.count("views") == 1, "the lender's own mask probability is among the cells"
    redone = study(tmp_path, redo=True).cells[0].run
    shared = plan.tokenizer(redone)
    assert shared.path.is_symlink()
    changed = Stage("tokenizer", shared.path, {"other": 1}, redo=True, pool=Pool(redone.pool.path))  # type: ignore[union-attr]
    changed.begin()
    assert not shared.path.is_symlink()
    assert plan.tokenizer(lender).done


def test_what_was_lent_is_begun_again_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """As when the files of the tiles have changed: the lender's tiles stay, and nothing goes round in circles."""
    lender = Run(tmp_path / "runs" / "mine", study(tmp_path).cells[0].run.recipe)
    work(plan.tiles(lender), [])
    with pytest.raises(DoneMeanwhile):
        plan.tiles(study(tmp_path).cells[0].run).begin()
    stage = plan.tiles(study(tmp_path).cells[0].run)
    assert stage.done
    stage.begin()
    stage.finish(content="new")
    assert plan.tiles(study(tmp_path).cells[1].run).facts == {"content": "new"}
    assert plan.tiles(lender).facts == {}


def _slowly(folder: Path, started: object, log: object) -> None:
    stage = study(folder).cells[0].run.stage("tiles", {"data": 1})
    stage.begin()
    started.set()  # type: ignore[attr-defined]
    log.get()  # type: ignore[attr-defined]
    stage.finish(made_by="the other")


def test_a_process_waits_for_a_stage_that_another_one_makes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started, log = context.Event(), context.Queue()
    study(tmp_path)
    other = context.Process(target=_slowly, args=(tmp_path, started, log))
    other.start()
    assert started.wait(60)
    stage = study(tmp_path).cells[1].run.stage("tiles", {"data": 1})
    assert not stage.done
    log.put("go on")  # after this the other finishes, and only then does begin come back
    with pytest.raises(DoneMeanwhile):
        stage.begin()
    assert stage.facts == {"made_by": "the other"}
    other.join()
    assert other.exitcode == 0


def _at_the_first_cell(folder: Path, started: Any, go: Any) -> None:
    def job(run: Run) -> None:
        started.set()
        assert go.wait(60)
        everything(run, [])

    run_cells(study(folder), None, job)


@pytest.mark.parametrize("killed", [False, True])
def test_a_cell_that_another_process_is_at_is_passed_over_and_waited_for_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """And done here after all, if the other one ends without."""
    context = multiprocessing.get_context("spawn")
    started, go = context.Event(), context.Event()
    grid = study(tmp_path)
    other = context.Process(target=_at_the_first_cell, args=(tmp_path, started, go))
    other.start()
    assert started.wait(60)
    said, mine = list[str](), list[str]()

    def hear(text: str) -> None:
        said.append(text)
        if "waiting" in text:  # only now the other goes on, so nothing depends on who is faster
            other.kill() if killed else go.set()

    def job(run: Run) -> None:
        mine.append(run.path.name)
        everything(run, [])

    monkeypatch.setattr("gcl_custom.runs.study.say", hear)
    first, *others = (cell.name for cell in grid.cells)
    with pytest.raises(Busy, match=rf"Another process is working in .*{first}\. Wait for it, or do another cell"):
        run_cells(grid, first, job)
    assert mine == []
    run_cells(grid, None, job)
    assert mine == ([*others, first] if killed else others)
    assert all(compared(cell.run) for cell in grid.cells)
    assert said[0] == f"cell 1 of 4, {first}: passed over, another process is working on it"
    assert said[-2] == f"cell 1 of 4, {first}: waiting for the other process that is working on it"
    assert said[-1] == f"cell 1 of 4, {first}" + ("" if killed else ": done before")
    other.join()
    assert killed or other.exitcode == 0


@pytest.mark.parametrize("name", sorted(shipped("recipes/studies")))
def test_shipped_studies_are_valid(name: str, tmp_path: Path) -> None:
    grid = load_study(name, tmp_path, ["data.root=tiles"])
    assert len(grid.cells) > 1
    assert all(isinstance(cell.run.recipe, Recipe) for cell in grid.cells)
    assert len({cell.name for cell in grid.cells}) == len(grid.cells)


def test_the_cells_of_imagenet100_are_the_imagenet_recipes_on_its_classes(tmp_path: Path) -> None:
    """But for the arm handcrafted, which is a cell of its own."""
    cells = load_study("imagenet100", tmp_path).cells
    assert [cell.name for cell in cells] == [f"augmentation={cell.place['augmentation']}" for cell in cells]
    names = {name for name in shipped("recipes") if name.startswith("imagenet-")}
    assert {f"imagenet-{cell.place['augmentation']}" for cell in cells} == names
    for cell in cells:
        whole = load_recipe(f"imagenet-{cell.place['augmentation']}", ["data.root=data/imagenet100"])
        arms = [arm for arm in whole.compare.arms if arm != "handcrafted"]
        expected = whole.model_dump() | {
            "name": "imagenet-handcrafted",
            "data": whole.data.model_dump() | {"card": "imagenet-100"},
            "compare": whole.compare.model_dump() | {"arms": arms},
        }
        assert cell.run.recipe.model_dump() == expected


def test_a_folder_named_by_its_day_is_a_value(tmp_path: Path) -> None:
    (cell,) = study(tmp_path, "recipe: mine.yaml\ngrid: {data.root: [2020-01-31]}\n").cells
    assert (cell.name, cell.run.recipe.data.root) == ("root=2020-01-31", "2020-01-31")


def test_cells_over_folders_get_flat_names_and_stay_below_the_runs(tmp_path: Path) -> None:
    roots = ["x/../../../../ESC", "/data/a", "/data/b", "data/b", "b"]
    grid = {"data.root": roots, "change": {"../up": {"pretrain.epochs": 3}}}
    (tmp_path / "s.yaml").write_text(json.dumps({"recipe": "quickstart", "grid": grid}))
    cells = load_study(tmp_path / "s.yaml", tmp_path / "runs").cells
    assert [cell.run.recipe.data.root for cell in cells] == roots
    assert [cell.name for cell in cells] == [
        "root=x-..-..-..-..-ESC,change=..-up", "root=-data-a,change=..-up", "root=-data-b,change=..-up",
        "root=data-b,change=..-up", "root=b,change=..-up",
    ]  # fmt: skip
    assert {cell.run.path.parent for cell in cells} == {tmp_path / "runs" / "s" / "cells"}
    (tmp_path / "s.yaml").write_text(json.dumps({"recipe": "quickstart", "grid": {"data.root": ["a/b", "a:b"]}}))
    one, two = (cell.name for cell in load_study(tmp_path / "s.yaml", tmp_path / "runs").cells)
    assert one == "root=a-b"
    assert two.startswith("root=a-b-")
    (tmp_path / "s.yaml").write_text(json.dumps({"recipe": "quickstart", "grid": {"../x": {"a": {}}}}))
    with pytest.raises(RecipeError, match=r"\.\./x"):
        load_study(tmp_path / "s.yaml", tmp_path / "runs")

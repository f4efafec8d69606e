from pathlib import Path

from gcl_custom.evaluation.stage_warnings import of_stages
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run


def test_warnings_are_those_that_finished_stages_kept_and_those_that_follow_from_their_facts(tmp_path: Path) -> None:
    run = Run(tmp_path, Recipe(name="r", data=DataSettings(root="none")))
    stages = [run.stage(name, {}) for name in ("tiles", "maskgit", "pretrain", "unfinished")]
    for stage in stages:
        stage.begin()
    stages[0].finish(unusable=7, duplicates_across_splits=2)
    stages[1].finish(warnings=["noise"], gap=-1.4)
    stages[2].finish(embedding_std=0.001, effective_rank=40.0)
    found = of_stages(stages)
    assert [text[:20] for text in found] == [
        "7 files could not be", "2 tiles are copies o", "maskgit: noise", "pretrain: The repres",
    ]  # fmt: skip

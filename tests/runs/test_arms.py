"""The arms of a comparison, and what they need."""

from pathlib import Path

from planned_runs import RECIPE, changed

from gcl_custom.recipe.pretraining import PackageStartSettings, TokenTargetsSettings
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run


def test_every_arm_and_seed_is_pretrained_once() -> None:
    pairs = arms.pretrainings(RECIPE)
    assert len(pairs) == len(set(pairs)) == 4 * 3
    assert pairs[0] == ("gcl", 0)


def test_handcrafted_views_alone_need_no_generator(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", RECIPE)
    alone = changed(run, pretrain={"mixing_rate": 0.0}, compare={"arms": ["gcl", "supervised"]})
    assert not arms.needs_generator(alone.recipe)
    assert [stage.name for stage in plan.stages(alone)] == [
        "tiles", "pretrain/gcl-0", "pretrain/gcl-1", "pretrain/gcl-2", "compare",
    ]  # fmt: skip
    anchored = changed(alone, pretrain={"mixing_rate": 0.0, "anchor": "reconstructed"})
    assert arms.needs_generator(anchored.recipe)
    assert not arms.needs_views(anchored.recipe)
    assert arms.needs_views(RECIPE)


def test_scratch_is_an_arm_only_where_supervised_begins_elsewhere(tmp_path: Path) -> None:
    run = changed(Run(tmp_path / "r", RECIPE), compare={"arms": ["gcl", "supervised", "scratch"]})
    assert arms.with_labels(run.recipe) == ["supervised"]
    alone = changed(run, compare={"arms": ["gcl", "scratch"]})
    assert arms.with_labels(alone.recipe) == ["scratch"]
    started = changed(
        run, pretrain={"backbone": "tf_efficientnet_lite0", "start": PackageStartSettings(name="package")}
    )
    assert arms.with_labels(started.recipe) == ["supervised", "scratch"]
    assert arms.pretrained(started.recipe) == ["gcl"]
    assert [arm for arm, _ in arms.pretrainings(started.recipe)] == ["gcl"] * 3


def test_targets_of_tokens_wait_for_the_tokenizer_alone(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", RECIPE)
    tokens = TokenTargetsSettings(name="tokens")
    raw = changed(run, pretrain={"targets": tokens, "source": "raw"}, compare={"arms": ["gcl"], "seeds": [0]})
    assert [stage.name for stage in plan.stages(raw)] == ["tiles", "tokenizer", "targets", "pretrain/gcl-0", "compare"]
    assert arms.needs_generator(raw.recipe)
    shown = changed(raw, pretrain={"targets": tokens, "source": "inpainted"})
    assert [stage.name for stage in plan.stages(shown)][:5] == ["tiles", "tokenizer", "tokens", "maskgit", "views"]
    labels_alone = changed(raw, compare={"arms": ["supervised"]})
    assert arms.awaited_of_generator(labels_alone.recipe) == []

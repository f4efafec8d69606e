"""What makes a stage stale, and what does not."""

from pathlib import Path

import pytest
from planned_runs import RECIPE, changed, finish

from gcl_custom.errors import StaleStage
from gcl_custom.recipe.evaluation import PIXEL_PROBING, CostBenefitSettings
from gcl_custom.recipe.features import Vgg16Settings
from gcl_custom.recipe.generator import (
    IcGanSettings,
    ImageToImageSettings,
    MaskGITSettings,
    TokenGeneratorSettings,
    TokenizerSettings,
)
from gcl_custom.recipe.views import LatentNoiseSettings, NavigatorSettings
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Pool


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "r", RECIPE)
    finish(plan.compare(run))
    return run


def test_a_change_makes_stale_what_follows_from_it_and_nothing_else(run: Run) -> None:
    other = changed(run, views={"mask_probability": 0.5})
    assert plan.maskgit(other).done
    assert not plan.views(other).done
    assert not plan.pretrain(other, "gcl", 0).done
    assert plan.pretrain(other, "handcrafted", 0).done
    assert plan.pretrain(other, "reconstructed", 0).done
    assert not plan.compare(other).done


def test_patience_is_a_setting_only_where_it_may_end_a_training(run: Run) -> None:
    def known(**keys: object) -> dict[str, object]:
        maskgit = MaskGITSettings.model_validate({"weights": "w", **keys})
        settings = plan.maskgit(changed(run, generator={"maskgit": maskgit})).settings["generator.maskgit"]
        return {key: value for key, value in settings.items() if key == "patience"}

    assert known(epochs=9) == {"patience": MaskGITSettings().patience}
    assert known(epochs=9, patience=0.5) == {"patience": 0.5}
    assert known(epochs=9, patience=0.0) == known(epochs=0) == {}


def test_a_threshold_of_similarity_changes_only_what_reads_the_views(run: Run) -> None:
    measured, other = (changed(run, views={"least_similarity": least}) for least in (0.5, 0.6))
    assert not plan.views(measured).done
    measured.redo = True
    finish(plan.compare(measured))
    assert plan.views(other).done
    assert not plan.pretrain(other, "gcl", 0).done
    assert plan.pretrain(other, "handcrafted", 0).done
    assert plan.pretrain(other, "paired", 0).done


def test_the_comparison_alone_depends_on_its_own_section(run: Run) -> None:
    other = changed(run, compare={"neighbours": 5})
    assert plan.pretrain(other, "gcl", 0).done
    assert not plan.compare(other).done


def test_the_cost_of_augmentations_depends_on_them_alone(run: Run) -> None:
    finish(plan.cost_benefit(run, 512))
    same = changed(run, views={"batch": 8, "per_tile": 3, "least_similarity": 0.5}, pretrain={"epochs": 7})
    assert plan.cost_benefit(same, 512).done
    assert not plan.cost_benefit(run, 100).done
    assert not plan.cost_benefit(changed(run, views={"decoding_steps": 3}), 512).done
    turned = run.recipe.pretrain.handcrafted.model_copy(update={"turn": 0.5})
    assert not plan.cost_benefit(changed(run, pretrain={"handcrafted": turned}), 512).done
    assert not plan.cost_benefit(
        changed(run, generator={"maskgit": run.recipe.tokens.maskgit.model_copy(update={"epochs": 9})}), 512
    ).done


@pytest.mark.parametrize("field", PIXEL_PROBING._fields)
def test_how_pixels_are_probed_makes_probes_of_masks_stale_and_no_others(
    run: Run, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    tiles = plan.tiles(run)
    stages = {}
    for masks in (False, True):
        tiles.finish(content="same", masks=masks)
        stages[masks] = plan.probe(run, "gcl", 0)
        stages[masks].redo = True
        finish(stages[masks])
    assert stages[True].fingerprint != stages[False].fingerprint
    other = PIXEL_PROBING._replace(**{field: getattr(PIXEL_PROBING, field) * 2})
    monkeypatch.setattr(plan, "PIXEL_PROBING", other)
    assert not plan.probe(run, "gcl", 0).done
    tiles.finish(content="same", masks=False)
    assert plan.probe(run, "gcl", 0).fingerprint == stages[False].fingerprint


def test_a_fill_value_is_a_setting_of_the_tiles_only_where_one_is_given(run: Run) -> None:
    assert "fill" not in plan.tiles(run).settings["data"]
    assert not plan.tiles(changed(run, data={"fill": -9999.0})).done


def test_names_and_checkpoint_times_change_no_stage(run: Run) -> None:
    assert plan.compare(changed(run, hardware={"checkpoint_minutes": 9.0})).done
    assert plan.compare(Run(run.path, run.recipe.model_copy(update={"name": "other"}))).done


@pytest.mark.parametrize(
    ("arm", "expected"),
    [("gcl", {"views"}), ("handcrafted", set()), ("reconstructed", {"reconstructions"}), ("paired", set())],
)
def test_an_arm_reads_only_what_it_mixes_in(run: Run, arm: str, expected: set[str]) -> None:
    assert {stage.name for stage in plan.pretrain(run, arm, 0).inputs} == {"tiles"} | expected


def test_a_reconstructed_anchor_is_read_by_every_arm(run: Run) -> None:
    other = changed(run, pretrain={"anchor": "reconstructed"})
    assert all(
        "reconstructions" in {s.name for s in plan.pretrain(other, arm, 0).inputs} for arm in ("gcl", "handcrafted")
    )


UNREAD = {"source": "raw", "pairing": ["flip"]}
"""Other values of the keys that do nothing at mixing rate 0."""


def test_at_rate_0_a_pretraining_does_not_depend_on_what_stands_for_a_generative_view(run: Run) -> None:
    for key, value in UNREAD.items():
        other = changed(run, pretrain={key: value})
        assert plan.pretrain(other, "handcrafted", 0).done, key
        assert not plan.pretrain(other, "gcl", 0).done, key
    for key, value in {"anchor": "reconstructed", "generative_views": 2, "epochs": 3}.items():
        assert not plan.pretrain(changed(run, pretrain={key: value}), "handcrafted", 0).done, key
    without = changed(run, pretrain={"mixing_rate": 0.0, "source": "reconstructed"}, compare={"arms": ["gcl"]})
    assert not arms.needs_reconstructions(without.recipe), "nothing is reconstructed that no view shows"


def test_at_rate_0_cells_share_a_pretraining_whatever_stands_for_a_generative_view(tmp_path: Path) -> None:
    cell = Run(tmp_path / "cell", RECIPE, pool=Pool(tmp_path / "stages"))
    for key, value in UNREAD.items():
        other = changed(cell, pretrain={key: value})
        assert plan.pretrain(other, "handcrafted", 0).path == plan.pretrain(cell, "handcrafted", 0).path, key
        assert plan.pretrain(other, "gcl", 0).path != plan.pretrain(cell, "gcl", 0).path, key


def test_a_frozen_generator_s_views_and_costs_depend_on_its_settings_and_captions(tmp_path: Path) -> None:
    for name in ("turbo", "blip", "another"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    generator = ImageToImageSettings(name="diffusion", model=str(tmp_path / "turbo"), captions=str(tmp_path / "blip"))
    run = Run(tmp_path / "r", RECIPE.model_copy(update={"generator": generator}))
    assert [stage.name for stage in plan.generator(run)] == ["tiles", "captions"]
    for stage in (plan.views(run), plan.cost_benefit(run, 8), plan.reconstructions(run)):
        finish(stage)
    other = changed(run, generator={"strength": 0.4})
    assert plan.captions(other).done
    assert not any(
        stage.done for stage in (plan.views(other), plan.cost_benefit(other, 8), plan.reconstructions(other))
    )
    other = changed(run, generator={"captions": str(tmp_path / "another")})
    assert not any(stage.done for stage in (plan.captions(other), plan.views(other), plan.cost_benefit(other, 8)))
    plain = changed(run, generator={"captions": None})
    assert [stage.name for stage in plan.generator(plain)] == ["tiles"]
    edited = changed(run, views={"strategy": LatentNoiseSettings(name="noise")})
    assert [stage.name for stage in plan.generator(edited)] == ["tiles"], "an edit of latents reads no caption"


def test_what_tiles_are_inverted_to_outlives_another_augmentation(tmp_path: Path) -> None:
    for name in ("g", "e", "other"):
        (tmp_path / name).write_text(name)
    generator = IcGanSettings(name="icgan", weights=str(tmp_path / "g"), encoder=str(tmp_path / "e"), inversion_steps=5)
    run = Run(tmp_path / "r", RECIPE.model_copy(update={"generator": generator}))
    assert [stage.name for stage in plan.generator(run)] == ["tiles", "latents"]
    assert [stage.name for stage in plan.reconstructions(run).inputs] == ["latents"]
    finish(plan.views(run))
    weaker = changed(run, generator={"strength": 0.4})
    assert plan.latents(weaker).done
    assert not plan.views(weaker).done
    learnt = changed(run, views={"strategy": NavigatorSettings(name="navigator")})
    assert plan.latents(learnt).done
    assert [stage.name for stage in plan.generator(learnt)] == ["tiles", "latents", "edit"]
    assert [stage.name for stage in plan.edit(learnt).inputs] == ["latents"]
    for key, value in {"inversion_steps": 6, "truncation": 0.5, "weights": str(tmp_path / "other")}.items():
        assert not plan.latents(changed(run, generator={key: value})).done
    fresh = changed(run, generator={"inversion_steps": 0})
    assert [stage.name for stage in plan.generator(fresh)] == ["tiles"], "without inversion nothing is kept"
    assert [stage.name for stage in plan.views(fresh).inputs] == ["tiles"]


def test_what_weights_hold_counts_wherever_they_are_named(tmp_path: Path) -> None:
    """Also where an own tokenizer goes on from them, and in the network that it is compared by."""
    (tmp_path / "own.safetensors").write_text("1")
    (tmp_path / "vgg16.pth").write_text("1")
    perceptual = Vgg16Settings(name="vgg16", weights=str(tmp_path / "vgg16.pth"))
    tokenizer = TokenizerSettings(weights=str(tmp_path / "own.safetensors"), perceptual=perceptual)
    maskgit = MaskGITSettings(weights=str(tmp_path / "own.safetensors"))
    generator = TokenGeneratorSettings(tokenizer=tokenizer, maskgit=maskgit)
    run = Run(tmp_path / "r", RECIPE.model_copy(update={"generator": generator}))
    assert plan.tokenizer(run).settings["generator.tokenizer"]["weights"].startswith("own.safetensors, SHA-256 ")
    finish(plan.maskgit(run))
    (tmp_path / "vgg16.pth").write_text("22")
    assert not plan.tokenizer(run).done
    (tmp_path / "vgg16.pth").write_text("1")
    assert plan.tokenizer(run).done
    (tmp_path / "own.safetensors").write_text("22")
    assert not plan.maskgit(run).done
    with pytest.raises(
        StaleStage, match=r"\(generator\.tokenizer\.weights: own\.safetensors, SHA-256 \w{16} -> own\.s"
    ):
        plan.tokenizer(run).begin()


def test_fid_counts_by_what_its_weights_hold(tmp_path: Path) -> None:
    weights = tmp_path / "inception.pth"
    weights.write_bytes(b"one")
    recipe = RECIPE.model_copy(update={"cost_benefit": CostBenefitSettings(fid_weights=str(weights))})
    run = Run(tmp_path / "r", recipe)
    finish(plan.cost_benefit(run, 9))
    assert plan.cost_benefit(run, 9).done
    weights.rename(tmp_path / "elsewhere.pth")
    assert plan.cost_benefit(run, 9).done
    weights.write_bytes(b"another")
    assert not plan.cost_benefit(run, 9).done
    with pytest.raises(StaleStage, match=r"cost_benefit\.fid_weights: inception\.pth, SHA-256"):
        plan.cost_benefit(run, 9).begin()


def test_a_seed_that_floors_are_drawn_with_is_a_setting_of_the_comparison(run: Run) -> None:
    other = Run(run.path, run.recipe.model_copy(update={"seed": 1}))
    assert plan.compare(other).settings != plan.compare(run).settings

"""The flow of data: which stages each stage reads, and on which part of the recipe it depends.

A stage depends only on what is named here, so its output stays valid when something else changes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from gcl_custom.recipe.evaluation import FEW_NEIGHBOURS, PENALTY_OF_FEW, PIXEL_PROBING, Arm
from gcl_custom.recipe.pretraining import TokenTargetsSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.section import Section
from gcl_custom.runs.arms import (
    BEGINNINGS,
    arm_settings,
    awaited_of_generator,
    mixes_views,
    needs_reconstructions,
    needs_views,
    normalised,
    pretrainings,
    reads_reconstructions,
)
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

TOKENIZER, MASKGIT, EDIT = "vqgan.safetensors", "maskgit.safetensors", "edit.safetensors"
"""Files of the weights in the folders of their stages."""
CAPTIONS = "captions.jsonl"


def _plain(section: Section) -> dict[str, Any]:
    return section.model_dump(mode="json")


def _with_contents(run: Run, key: str, section: Section) -> dict[str, Any]:
    """A section with digests of the weights in place of their paths.

    Args:
        key: of the section in the recipe.
    """
    plain = _plain(section)
    for name, content in run.contents.items():
        if name.startswith(f"{key}."):
            *way, last = name.removeprefix(f"{key}.").split(".")
            inner = plain
            for step in way:
                inner = inner[step]
            inner[last] = content
    return plain


def _compute(recipe: Recipe) -> dict[str, Any]:
    """The precision changes bits of the result, so a stage must not go on in another one."""
    return {"precision": recipe.hardware.precision}


def tiles(run: Run) -> Stage:
    data = _plain(run.recipe.data)
    del data["symmetry"], data["quicklook"]
    if not run.recipe.data.labels_on_ground:  # nor do these stand there
        del data["label_column"], data["label_share"], data["label_ignore"]
    if data["fill"] is None:
        del data["fill"]
    if data["store"]:  # what is there is known by its content
        data["store"] = {"mixed_shards": data["store"]["mixed_shards"]}
        del data["root"]
    else:
        del data["store"]
    # How near counts as near changes no split. Below, a key without a value is left out, as what changes no tile.
    del data["split"]["near_km"]
    if data["scenes"]:
        data["scenes"]["remote"] = data["scenes"]["remote"] and data["scenes"]["remote"]["addresses"]
        data["scenes"] = {key: value for key, value in data["scenes"].items() if key != "remote" or value}
    if not (run.recipe.data.scenes or data["split"]["buffer_km"]):  # tiles that are files have no ground to share
        del data["split"]["buffer_km"]
    data["split"] = {key: value for key, value in data["split"].items() if value is not None}
    return run.stage("tiles", {"data": data}, remedy="gcl-custom fit-generator")


def tokenizer(run: Run) -> Stage:
    recipe = run.recipe
    settings = {
        "generator.tokenizer": _with_contents(run, "generator.tokenizer", recipe.tokens.tokenizer),
        "data.symmetry": recipe.data.symmetry,
        "seed": recipe.seed,
        "hardware": _compute(recipe),
    }
    return run.stage("tokenizer", settings, [tiles(run)], "gcl-custom fit-generator")


def tokens(run: Run) -> Stage:
    settings = {"data.symmetry": run.recipe.token_symmetry, "hardware": _compute(run.recipe)}
    return run.stage("tokens", settings, [tokenizer(run)], "gcl-custom fit-generator")


def maskgit(run: Run) -> Stage:
    recipe = run.recipe
    plain = _with_contents(run, "generator.maskgit", recipe.tokens.maskgit)
    if not (plain["epochs"] and plain["patience"]):  # then it does nothing
        del plain["patience"]
    settings = {
        "generator.maskgit": plain,
        "seed": recipe.seed,
        "hardware": _compute(recipe),
    }
    return run.stage("maskgit", settings, [tokens(run)], "gcl-custom fit-generator")


def captions(run: Run) -> Stage:
    """Captions of the tiles, for diffusion."""
    settings = {"generator.captions": run.contents["generator.captions"], "hardware": _compute(run.recipe)}
    return run.stage("captions", settings, [tiles(run)], "gcl-custom fit-generator")


def latents(run: Run) -> Stage:
    """Latents that tiles are inverted to. They depend on no augmentation."""
    recipe = run.recipe
    generator = _with_contents(run, "generator", recipe.generator)
    inversion = {key: value for key, value in generator.items() if key not in recipe.generator.of_augmentation}
    settings = {"generator": inversion, "seed": recipe.seed, "hardware": _compute(recipe)}
    return run.stage("latents", settings, [tiles(run)], "gcl-custom fit-generator")


def edit(run: Run) -> Stage:
    """A learned edit of latents."""
    recipe = run.recipe
    assert recipe.views.strategy is not None
    settings = {"views.strategy": _plain(recipe.views.strategy), "seed": recipe.seed, "hardware": _compute(recipe)}
    made = _after(run, recipe.generator.encoded_after)
    return run.stage("edit", {**settings, **_frozen(run)}, made, "gcl-custom fit-generator")


OF_GENERATOR = {
    "tokenizer": tokenizer,
    "tokens": tokens,
    "maskgit": maskgit,
    "captions": captions,
    "latents": latents,
    "edit": edit,
}
"""Stages that a generator may need, by their name in ``Recipe.generator_stages``."""


def _frozen(run: Run) -> dict[str, Any]:
    """The section of a generator that no stage trains; of others the stages stand for it."""
    generator = run.recipe.generator
    return {"generator": None if generator.trained else _with_contents(run, "generator", generator)}


def _after(run: Run, names: Iterable[str]) -> list[Stage]:
    """The stages of these names, or the tiles where there are none."""
    return [OF_GENERATOR[name](run) for name in names] or [tiles(run)]


def generator(run: Run) -> list[Stage]:
    """The stages that make a generator ready, in the order of their work."""
    return [tiles(run), *(OF_GENERATOR[name](run) for name in run.recipe.generator_stages)]


def awaited(run: Run) -> list[Stage]:
    """The tiles, and those stages of the generator that some pretraining of the recipe waits for."""
    return [tiles(run), *(OF_GENERATOR[name](run) for name in awaited_of_generator(run.recipe))]


def _made(run: Run) -> list[Stage]:
    """Inputs of the views. Where the generator in-paints, its last stage stands for the others."""
    made = _after(run, run.recipe.generator_stages)
    return made[-1:] if run.recipe.inpaints else made


def views(run: Run) -> Stage:
    recipe = run.recipe
    plain = _plain(recipe.views)
    if plain["least_similarity"] is not None:  # where similarity is measured, how much is asked for changes no view
        plain["least_similarity"] = "measured"
    settings = {"views": plain, **_frozen(run), "seed": recipe.seed, "hardware": _compute(recipe)}
    return run.stage("views", settings, _made(run), "gcl-custom make-views")


def weights(run: Run) -> list[Path]:
    """Files of the generator's weights in the run's own folder, the tokenizer's first."""
    files = {"tokenizer": TOKENIZER, "maskgit": MASKGIT}
    return [OF_GENERATOR[name](run).path / files[name] for name in run.recipe.generator_stages if name in files]


def reconstructions(run: Run) -> Stage:
    made = _after(run, run.recipe.generator.reconstructed_after)
    settings = {**_frozen(run), "hardware": _compute(run.recipe)}
    return run.stage("reconstructions", settings, made, "gcl-custom make-views")


def targets(run: Run) -> Stage:
    """What views predict of each training tile: what a frozen network sees, its words, or its tokens."""
    settings = run.recipe.pretrain
    plain = _with_contents(run, "pretrain", settings)["targets"]
    del plain["weight"]
    if settings.feature_targets:
        taught_by = settings.taught_by
        known: dict[str, Any] = {
            "network": taught_by.backbone,
            "stem": taught_by.stem,
            "hardware": _compute(run.recipe),
        }
        if settings.feature_targets.weights is None:
            known |= start(run)
    else:
        known = {"seed": run.recipe.seed, "hardware": _compute(run.recipe)}
    made = tokenizer(run) if isinstance(settings.targets, TokenTargetsSettings) else tiles(run)
    return run.stage("targets", {"pretrain.targets": plain, **known}, [made], "gcl-custom pretrain")


def pretrain(run: Run, arm: Arm, seed: int) -> Stage:
    """One pretraining; it reads the views only if its settings mix them in."""
    settings = arm_settings(run.recipe, arm)
    inputs, threshold = [tiles(run)], None
    if mixes_views(settings):
        inputs.append(views(run))
        threshold = run.recipe.views.least_similarity
    if reads_reconstructions(settings):
        inputs.append(reconstructions(run))
    if settings.predicted:
        inputs.append(targets(run))
    plain = {
        "pretrain": _with_contents(run, "pretrain", normalised(settings)),
        "views.least_similarity": threshold,
        "seed": seed,
        "hardware": _compute(run.recipe),
    }
    return run.stage(f"pretrain/{arm}-{seed}", plain, inputs, "gcl-custom compare-supervised")


def probe(run: Run, arm: str, seed: int) -> Stage:
    """Linear probe and kNN of one backbone; the arms ``untrained`` and ``public`` need no pretraining."""
    recipe = run.recipe
    inputs = [tiles(run)] if arm in BEGINNINGS else [tiles(run), pretrain(run, cast(Arm, arm), seed)]
    backbone = [recipe.pretrain.backbone, recipe.pretrain.stem]
    if arm == "public":  # the same for every seed
        settings = probe_settings(run, backbone, None) | start(run)
        return run.stage("probes/public", settings, inputs, "gcl-custom compare-supervised")
    settings = probe_settings(run, backbone, seed)
    return run.stage(f"probes/{arm}-{seed}", settings, inputs, "gcl-custom compare-supervised")


def floor(run: Run, name: str, settings: Mapping[str, Any]) -> Stage:
    """The probes of features that need no network.

    Args:
        settings: what the features depend on, beside the tiles.
    """
    known = probe_settings(run, dict(settings), run.recipe.seed)
    return run.stage(f"probes/{name}", known, [tiles(run)], "gcl-custom compare-supervised")


def start(run: Run) -> dict[str, Any]:
    """Settings of what depends on the weights that pretraining begins with; none where it begins with random ones."""
    settings = run.recipe.pretrain
    if not settings.continues:
        return {}
    key = "pretrain.start"
    return {key: run.contents.get(key) or _with_contents(run, key, settings.start)}


def supervised_start(run: Run, arm: str) -> dict[str, Any]:
    """Settings of a training on labels: where ``supervised`` begins; ``scratch`` begins with random weights."""
    return start(run) if arm == "supervised" else {}


def probe_settings(run: Run, backbone: Any, seed: int | None) -> dict[str, Any]:
    """Settings of a probe, beside its inputs: tiles and weights. Those of pixels count where tiles have masks."""
    compare = run.recipe.compare
    record = tiles(run).record or {}
    masks = record.get("facts", {}).get("masks", False)
    pixels = {**PIXEL_PROBING._asdict(), "penalty_of_few": PENALTY_OF_FEW}
    return {
        "penalties": compare.penalties,
        "few labels": {
            "shots": compare.shots,
            "fractions": [fraction for fraction in compare.fractions if fraction < 1],
            "draws": compare.draws,
        },
        "neighbours": [compare.neighbours, FEW_NEIGHBOURS],
        "backbone": backbone,
        "seed": seed,
        "precision": run.recipe.hardware.precision,
        **({"pixels": pixels} if masks else {}),
    }


SCORES_FORM = 2
"""Number that goes up when scores.json changes its form or the verdict its rules, so that older ones are made anew."""


def compare(run: Run) -> Stage:
    recipe = run.recipe
    settings = {
        "scores": SCORES_FORM,
        "compare": _plain(recipe.compare),
        "handcrafted": _plain(recipe.pretrain.handcrafted),
        "backbone": [recipe.pretrain.backbone, recipe.pretrain.stem, recipe.pretrain.crop_size, recipe.pretrain.epochs],
        "hardware": _compute(recipe),
        **start(run),
        **({"seed": recipe.seed} if recipe.seed else {}),  # of the floors; 0 is the default
    }
    inputs = [tiles(run), *(pretrain(run, arm, seed) for arm, seed in pretrainings(recipe))]
    return run.stage("compare", settings, inputs, "gcl-custom compare-supervised")


def cost_benefit(run: Run, tiles: int) -> Stage:
    """Costs and effects of each augmentation of the recipe, on at most so many tiles."""
    recipe = run.recipe
    # These keys set how many views there are and which of them pretraining takes. They change no view.
    apart = ("per_tile", "batch", "least_similarity")
    views = {key: value for key, value in _plain(recipe.views).items() if key not in apart}
    settings = {
        "tiles": tiles,
        "cost_benefit.fid_weights": run.contents.get("cost_benefit.fid_weights"),
        "views": views,
        **_frozen(run),
        "handcrafted": _plain(recipe.pretrain.handcrafted),
        "seed": recipe.seed,
        "hardware": _compute(recipe),
    }
    return run.stage("cost_benefit", settings, _made(run), "gcl-custom cost-benefit")


def stages(run: Run) -> list[Stage]:
    """All stages of a run, in the order of their work; cost_benefit is no part of it, since nothing waits for it."""
    recipe = run.recipe
    generative = [views(run)] if needs_views(recipe) else []
    controls = [reconstructions(run)] if needs_reconstructions(recipe) else []
    predicted = [targets(run)] if recipe.pretrain.predicted else []
    arms = [pretrain(run, arm, seed) for arm, seed in pretrainings(recipe)]
    return [*awaited(run), *generative, *controls, *predicted, *arms, compare(run)]

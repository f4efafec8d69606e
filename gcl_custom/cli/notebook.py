"""What ``import gcl_custom`` offers to a notebook or a program: the same work as the commands, with values returned.

Wherever a function takes a ``run``, that is the run's name, the path of its folder, or None for the latest one.
Mistakes of the caller raise ``gcl_custom.errors.UserError``, whose text says what to do.
"""

import json
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gcl_custom.cli import jobs
from gcl_custom.errors import UserError
from gcl_custom.files import read_json
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run, kept_run, open_run

if TYPE_CHECKING:
    import pyarrow
    from torch import nn

    from gcl_custom.export.transform import Transform

GivenRun = str | os.PathLike[str] | None
"""A name, the path of a run's folder, or None for the latest run."""

SAVED = ("backbone.safetensors", "model.safetensors")
"""Names of the file in the folder of a pretraining, and in one that was exported for Hugging Face."""


def load(
    run: GivenRun = None, *, arm: str = "gcl", seed: int | None = None, runs: str | os.PathLike[str] = "runs"
) -> "tuple[nn.Module, Transform]":
    """The backbone of a run, and what turns an image into its input.

        network, transform = gcl_custom.load("quickstart")
        representation = network(transform("tile.tif")[None])

    Or of a file: ``backbone.safetensors`` of a run, or what ``export`` wrote for timm or Hugging Face. Such a file says
    in its metadata which network it holds and what that takes, so it needs no run.

        network, transform = gcl_custom.load("backbone.safetensors")

    Args:
        run: name or path of the run; without it, the latest. Or the path of a file or its folder.
        arm: arm of the comparison that pretrained the backbone.
        seed: seed of the pretraining; without it, the first of compare.seeds.
        runs: folder of all runs.

    Returns:
        A network of timm with its weights, on the CPU and in evaluation mode: tiles (b c h w) -> (b d). And a
        transform from a path, a Pillow image or an array to one float tile (c h w), which a DataLoader may use.

    Raises:
        UserError: there is no such run or arm, or its pretraining is not finished; or the file does not say what it
            is, or comes with an arm or a seed, of which it has one.
    """
    if run is not None and (saved := _saved(Path(run))):
        if arm != "gcl" or seed is not None:
            raise UserError(f"{run} is one backbone: leave arm and seed out, or give the run")
        network, transform = import_module("gcl_custom.export.saved_backbone").load_saved(saved)
        return network, transform
    from gcl_custom.export.backbone_of_run import load_backbone  # here, since torch takes seconds to import
    from gcl_custom.export.transform import Transform

    known = load_backbone(_opened(run, runs), arm, seed)
    return known.plain(), Transform.of(known.store, known.run.recipe.data)


def embed(
    run: GivenRun,
    folder: str | os.PathLike[str],
    *,
    arm: str = "gcl",
    seed: int | None = None,
    runs: str | os.PathLike[str] = "runs",
) -> "pyarrow.Table":
    """The representations of all images below a folder, as ``gcl-custom embed`` writes them to Parquet.

    Args:
        run: name or path of the run; None for the latest.
        folder: images in folders of any depth. Unusable ones are left out, and a warning names the first of them.
        arm: arm of the comparison that pretrained the backbone.
        seed: seed of the pretraining; without it, the first of compare.seeds.
        runs: folder of all runs.

    Returns:
        Columns file, representation, x, y, crs, longitude, latitude and geometry, a row for each file by path.

    Raises:
        UserError: there is no such run, arm or folder, or no usable image in it.
    """
    return import_module("gcl_custom.export.embed").embedded(_opened(run, runs), Path(folder), arm, seed)


def scores(
    run: GivenRun = None,
    *,
    stage: Literal["compare", "evaluate"] | None = None,
    runs: str | os.PathLike[str] = "runs",
) -> dict[str, Any]:
    """The scores of a run: accuracies or mAP with their intervals, and comparisons, as scores.json has them.

    Args:
        run: name or path of the run; without it, the latest.
        stage: scores of ``compare-supervised`` or of ``evaluate``; without it, the first of the two that there is.
        runs: folder of all runs.

    Raises:
        UserError: there is no such run, or it has no such scores yet.
    """
    opened = _opened(run, runs)
    compare, evaluated = plan.compare(opened), opened.path / "evaluate" / "scores.json"
    evaluate = f"gcl-custom evaluate --backbone NAME=SPEC {opened.options}"
    found: dict[str, Any]
    if stage != "evaluate" and compare.done:
        found = read_json(compare.path / "scores.json")
        return found
    if stage != "compare" and evaluated.is_file():
        found = read_json(evaluated)
        if found["tiles"] != plan.tiles(opened).output:
            raise UserError(f"{evaluated} is of other tiles than the run now has. Run: {evaluate}")
        return found
    commands = {"compare": f"gcl-custom compare-supervised {opened.options}", "evaluate": evaluate}
    wanted = commands[stage] if stage else " or ".join(commands.values())
    raise UserError(f"{opened.path} has no scores of a finished {stage or 'comparison or evaluation'}. Run: {wanted}")


def run(
    recipe: str | os.PathLike[str],
    *,
    redo: bool = False,
    runs: str | os.PathLike[str] = "runs",
    **overrides: object,
) -> Path:
    """Everything that a recipe says, as ``gcl-custom run`` does it; what is done before is not done again.

        folder = gcl_custom.run("quickstart", data={"root": "tiles"}, pretrain={"epochs": 2})

    In a notebook, hardware.devices must be 1: several processes start from the command line only.

    Args:
        recipe: a recipe file, the name of a shipped recipe, or a folder of images.
        redo: replace output that was made from other settings.
        runs: folder of all runs.
        overrides: keys of the recipe, a dict for a section. The keys that a dict leaves out keep their values.

    Returns:
        The run's folder, which the other functions take as ``run``.

    Raises:
        UserError: the recipe has mistakes, or a stage cannot be done.
    """
    texts = list(_override_texts(overrides))
    return jobs.work(os.fspath(recipe), None, texts, redo, Path(runs), jobs.everything).path


def _override_texts(values: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Nested keys as the texts that --set takes."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _override_texts(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={json.dumps(value, default=os.fspath)}"


def _saved(given: Path) -> Path | None:
    """The file of weights that a path means, if it means one and no run."""
    if given.suffix == ".safetensors" and given.is_file():
        return given
    if (given / "recipe.yaml").is_file():
        return None
    return next((given / name for name in SAVED if (given / name).is_file()), None)


def _opened(given: GivenRun, runs: str | os.PathLike[str]) -> Run:
    if given is not None and (Path(given) / "recipe.yaml").is_file():
        return kept_run(Path(given))
    return open_run(Path(runs), None, None if given is None else os.fspath(given))

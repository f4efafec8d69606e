"""Stage without output: what would end a run later is looked at before its tiles are packed."""

from gcl_custom.launcher import launch
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.boards.kinds import require_loggers
from gcl_custom.training.devices import require_devices, require_processes
from gcl_custom.weights.digests import require
from gcl_custom.weights.needed import needed
from gcl_custom.weights.on_disk import require_readable


def beforehand(run: Run) -> None:
    """Look for the devices, boards and weights that the recipe names. Once tiles are packed, each stage looks itself.

    Raises:
        UserError: there are fewer devices or processes than the recipe asks for, weights are missing or damaged, or a
            board's package is missing.
    """
    require_processes(run.recipe.hardware, launch())
    require_loggers(run.recipe.hardware)
    if plan.tiles(run).done:
        return
    require_devices(run.recipe.hardware)
    for need in needed(run.recipe):
        if any(key.split(".")[0] in ("generator", "pretrain") for key in need.keys):
            require(need)
            require_readable(need)

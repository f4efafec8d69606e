"""gcl-custom: generative contrastive learning on a user's own unlabelled imagery.

    import gcl_custom

    folder = gcl_custom.run("quickstart")            # all stages of a recipe
    network, transform = gcl_custom.load(folder)     # a timm network, and what makes its input
    table = gcl_custom.embed(folder, "images")       # representations, as a pyarrow.Table
    gcl_custom.scores(folder)["verdict"]

Nothing is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcl_custom.cli.notebook import embed, load, run, scores

__version__ = "0.1.0"
__all__ = ["embed", "load", "run", "scores"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("gcl_custom.cli.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

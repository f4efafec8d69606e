"""The building blocks of a recipe: the strict section, bounded numbers, and choices by name."""

import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Discriminator, Field

UNBOUNDED = 10**9
"""A bound that no value comes near; it keeps numbers out that no machine can count to."""
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
LearningRate = Annotated[float, Field(gt=0, le=1000)]
Count = Annotated[int, Field(ge=1, le=UNBOUNDED)]
CountOrZero = Annotated[int, Field(ge=0, le=UNBOUNDED)]
LARGEST_BATCH = 2**17
Batch = Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
Pixels = Annotated[int, Field(ge=16, le=1024, multiple_of=8)]
"""Side of a square view or tile."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Width = Annotated[int, Field(ge=1, le=2**16)]
Depth = Annotated[int, Field(ge=1, le=256)]
Widths = Annotated[list[Width], Field(min_length=1, max_length=16)]


class Section(BaseModel):
    """A part of a recipe. Types are strict, numbers finite, unknown keys forbidden, and values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class NamedWeights(NamedTuple):
    """Weights that a section names."""

    key: str
    choice: str
    """What takes them, as the catalogue of public weights calls it."""
    given: str
    """A path or an id of the hub."""
    folder: bool = False
    """Whether a folder is meant: of diffusers or transformers."""
    read: bool = True
    """Whether any stage reads them: an edit of latents leaves the transformer alone."""
    makes_views: bool = True
    """Whether views are made with them. They are not made with what captions or compares pictures."""

    def below(self, section: str) -> "NamedWeights":
        """The same weights, with their key as the outer section sees it."""
        return self._replace(key=f"{section}.{self.key}")

    @property
    def without_folders(self) -> str:
        """What may be shown to others: an id of the hub as it is, and of a path its last part."""
        on_hub = self.folder and HUB_ID.fullmatch(self.given) and not Path(self.given).is_dir()
        return self.given if on_hub else Path(self.given).name


def named(default: str) -> Discriminator:
    """Choose among sections by their key ``name``. Without that key, the default is meant."""

    def name_of(value: Any) -> Any:
        return value.get("name", default) if isinstance(value, dict) else getattr(value, "name", default)

    return Discriminator(name_of)

"""The building blocks of a recipe: the strict section, bounded numbers, and choices by name."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Widths = Annotated[list[Count], Field(min_length=1)]


class Section(BaseModel):
    """A part of a recipe. Types are strict, unknown keys are forbidden, and values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def named(default: str) -> Discriminator:
    """Choose among sections by their key ``name``. Without that key, the default is meant."""

    def name_of(value: Any) -> Any:
        return value.get("name", default) if isinstance(value, dict) else getattr(value, "name", default)

    return Discriminator(name_of)

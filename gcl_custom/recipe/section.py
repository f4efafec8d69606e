"""What every part of a recipe is made of: the strict section, bounded numbers, and choices told apart by name."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Widths = Annotated[list[Count], Field(min_length=1)]


class Section(BaseModel):
    """A part of a recipe: typed strictly, unknown keys forbidden, unchanging once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def named(default: str) -> Discriminator:
    """Tells the sections of a choice apart by their key ``name``; without it, the default is meant."""

    def name_of(value: Any) -> Any:
        return value.get("name", default) if isinstance(value, dict) else getattr(value, "name", default)

    return Discriminator(name_of)

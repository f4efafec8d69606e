from typing import Annotated, Literal

import pytest
from pydantic import Tag, TypeAdapter, ValidationError

from gcl_custom.recipe.section import Section, named


class One(Section):
    name: Literal["one"] = "one"
    size: int = 1


class Two(Section):
    name: Literal["two"]


CHOICE = TypeAdapter(Annotated[Annotated[One, Tag("one")] | Annotated[Two, Tag("two")], named("one")])


def test_a_choice_goes_by_name_and_else_by_its_default() -> None:
    assert CHOICE.validate_python({"size": 3}) == One(size=3)
    assert CHOICE.validate_python({"name": "two"}) == Two(name="two")
    assert CHOICE.validate_python(Two(name="two")) == Two(name="two")
    with pytest.raises(ValidationError, match="union_tag_invalid"):
        CHOICE.validate_python({"name": "three"})


def test_sections_are_strict_and_do_not_change() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        One.model_validate({"sise": 3})
    with pytest.raises(ValidationError, match="int_type"):
        One.model_validate({"size": "3"})
    with pytest.raises(ValidationError, match="frozen_instance"):
        One().size = 2

"""The recipe reference, written from the grammar itself: every key with its type, bounds, default and meaning."""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.section import Section


def reference() -> str:
    """All keys of a recipe as a Markdown table."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{key}` | {value} | {default} | {meaning} |" for key, value, default, meaning in _rows(Recipe, "")]
    return "\n".join(lines) + "\n"


def _rows(section: type[Section], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    meanings = _meanings(section)
    for name, field in section.model_fields.items():
        key, inner = f"{prefix}{name}", _sections(field.annotation)
        meaning = " ".join(meanings.get(name, "").split())
        if not inner:
            yield key, _type(field), _default(field), meaning
        elif len(inner) == 1:
            yield from _rows(inner[0], f"{key}.")
        else:  # a tagged union: one of several sections, told apart by name
            for choice in inner:
                tags = ", ".join(get_args(choice.model_fields["name"].annotation))
                yield from _rows(choice, f"{key} ({tags}).")


def _meanings(section: type[Section]) -> dict[str, str]:
    """The text below each key; pydantic could read it for every section, but that would slow every command down."""
    found: dict[str, str] = {}
    for parent in reversed(section.__mro__):
        if issubclass(parent, Section):
            (source,) = ast.parse(inspect.getsource(parent)).body
            assert isinstance(source, ast.ClassDef)
            for key, text in pairwise(source.body):
                if (
                    isinstance(key, ast.AnnAssign)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                ):
                    found[ast.unparse(key.target)] = str(text.value.value)
    return found


def _sections(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    found = [section for argument in get_args(annotation) for section in _sections(argument)]
    return list(dict.fromkeys(found))  # a section of several names stands there under each


def _type(field: FieldInfo) -> str:
    parts = [_name(field.annotation)]
    for rule in field.metadata:
        for bound, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("multiple_of", "multiple of")):
            if getattr(rule, bound, None) is not None:
                parts.append(f"{sign} {getattr(rule, bound):g}")
    return ", ".join(parts)


def _name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin in (list, tuple):
        return f"list of {_name(arguments[0])}"
    if arguments and isinstance(arguments[-1], FieldInfo):  # Annotated: the bounds of the inner value
        return _name(arguments[0])
    if type(None) in arguments:
        return " or ".join(_name(argument) for argument in arguments if argument is not type(None))
    return {int: "whole number", float: "number", str: "text", bool: "true or false"}.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list | tuple):
        return "[" + ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in default) + "]"
    return f"{default:g}" if isinstance(default, float) else str(default)

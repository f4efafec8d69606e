"""The page of all recipe keys, written from the grammar itself: type, bounds, default and meaning of each."""

import ast
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.section import UNBOUNDED, Section

COMMON = (
    "data.root", "data.card", "data.bands", "data.labels", "data.size", "data.symmetry",
    "generator.name", "generator.tokenizer.epochs", "generator.maskgit.epochs",
    "views.strategy.name", "views.mask_probability", "views.decoding_steps",
    "pretrain.backbone", "pretrain.start.name", "pretrain.targets.name", "pretrain.method.name",
    "pretrain.optimizer.name", "pretrain.optimizer.learning_rate", "pretrain.epochs", "pretrain.batch",
    "pretrain.mixing_rate", "compare.seeds", "compare.arms", "compare.fractions", "hardware.devices",
)  # fmt: skip
"""The keys that people change first, in the order of the sections."""

INTRODUCTION = f"""# Every key of a recipe

`gcl-custom recipes keys` writes this page. The key `epochs` of the section `pretrain` is called `pretrain.epochs`
here, and `--set pretrain.epochs=10` overrides it on the command line. A key that ends in `.name` chooses among
sections. Each choice has a table of its own below.

## The {len(COMMON)} keys that people change first
"""


@dataclass(frozen=True)
class Key:
    """One key of a section."""

    path: str
    choice: str
    """Names of the choice that the section stands for; empty where there is none to make."""
    value: str
    default: str
    meaning: str


@dataclass
class KeyTable:
    """The keys of a section, and of the sections inside it that are no choices."""

    title: str
    about: str
    keys: list[Key] = field(default_factory=list)


def reference() -> str:
    """The page as Markdown: the common keys, then a heading and a table for each section and each choice."""
    tables = _tables()
    known = [key for table in tables for key in table.keys]
    lines = [INTRODUCTION, *_markdown([_common_row([key for key in known if key.path == path]) for path in COMMON])]
    for table in tables:
        lines += ["", f"{'###' if ': ' in table.title else '##'} {table.title}"]
        lines += ["", table.about] if table.about else []
        if table.keys:
            lines += ["", *_markdown([(key.path, key.value, key.default, key.meaning) for key in table.keys])]
    return "\n".join(lines) + "\n"


def _markdown(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    header = ["| key | value | default | meaning |", "|---|---|---|---|"]
    return header + [f"| `{key}` | {value} | {default} | {meaning} |" for key, value, default, meaning in rows]


def _common_row(keys: Sequence[Key]) -> tuple[str, str, str, str]:
    """A row for one key, which several choices may have; its meaning is cut after the first sentence."""
    first = keys[0]
    sentence = re.match(r".+?\.(?= |$)", first.meaning)
    meaning = sentence[0] if sentence else first.meaning
    return first.path, _by_choice(keys, "value"), _by_choice(keys, "default"), meaning


def _by_choice(keys: Sequence[Key], column: Literal["value", "default"]) -> str:
    """The cell that all choices share, or the cell of each."""
    cells = {key.choice: str(getattr(key, column)) for key in keys}
    if len(set(cells.values())) == 1:
        return cells[keys[0].choice]
    return "; ".join(f"{cell} ({choice})" for choice, cell in cells.items())


def _tables() -> list[KeyTable]:
    """All tables, in the order of the page."""
    grammar, meanings = _Grammar([KeyTable("The run", "")]), _meanings(Recipe)
    for name, info in Recipe.model_fields.items():
        table, inner = grammar.tables[0], _sections(info.annotation)
        if inner:
            table = KeyTable(name, _about(inner[0]) if len(inner) == 1 else "")
            grammar.tables.append(table)
        grammar.add_key(table, name, info, meanings.get(name, ""))
    return grammar.tables


@dataclass
class _Grammar:
    """Walks through the sections of a recipe and collects their tables."""

    tables: list[KeyTable]
    described: dict[tuple[type[Section], ...], str] = field(default_factory=dict)
    """Sections to choose among -> the key whose tables describe them; a second key refers to those."""

    def add_key(self, table: KeyTable, path: str, info: FieldInfo, meaning: str, choice: str = "") -> None:
        """Add what one key of a section holds: a value, a section, or a choice among sections."""
        inner = _sections(info.annotation)
        if not inner:
            table.keys.append(Key(path, choice, _type(info), _default(info), meaning))
        elif len(inner) == 1:
            if path != table.title:
                default = "none" if info.default is None else ""
                table.keys.append(Key(path, choice, "section", default, meaning or _about(inner[0])))
            self.add_section(table, path, inner[0], choice)
        else:
            value = " or ".join(f"`{name}`" for option in inner for name in _names(option))
            known = self.described.get(inner)
            meaning += f" Their keys are listed under `{known}`." if known else ""
            table.keys.append(Key(f"{path}.name", choice, value, _default(info), meaning))
            if not known:
                self.described[inner] = path
                for option in inner:
                    names = ", ".join(_names(option))
                    self.tables.append(KeyTable(f"{path}: {names}", _about(option)))
                    self.add_section(self.tables[-1], path, option, names)

    def add_section(self, table: KeyTable, path: str, section: type[Section], choice: str) -> None:
        """Add all keys of a section, without the name of a choice, which stands where the choice is made."""
        meanings = _meanings(section)
        for name, info in section.model_fields.items():
            if name != "name":
                self.add_key(table, f"{path}.{name}", info, meanings.get(name, ""), choice)


def _names(option: type[Section]) -> tuple[str, ...]:
    """Names by which a recipe chooses a section."""
    return get_args(option.model_fields["name"].annotation)


def _about(section: type[Section]) -> str:
    return " ".join((section.__doc__ or "").split())


def _meanings(section: type[Section]) -> dict[str, str]:
    """Key -> the text below it. Pydantic could read these texts, but would do so for every command and slow it down."""
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
                    found[ast.unparse(key.target)] = " ".join(str(text.value.value).split())
    return found


def _sections(annotation: Any) -> tuple[type[Section], ...]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return (annotation,)
    found = [section for argument in get_args(annotation) for section in _sections(argument)]
    return tuple(dict.fromkeys(found))  # a section with several names is in the annotation once for each


def _type(field: FieldInfo) -> str:
    parts = [_name(field.annotation)]
    for rule in field.metadata:
        for bound, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("multiple_of", "multiple of")):
            limit = getattr(rule, bound, None)
            if limit is not None and limit != UNBOUNDED:
                parts.append(f"{sign} {limit if isinstance(limit, int) else f'{limit:g}'}")
    return ", ".join(parts)


def _name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin in (list, tuple):
        return f"list of {_name(arguments[0])}".replace(" number", " numbers").replace(" or ", ", ")
    if arguments and isinstance(arguments[-1], FieldInfo):  # Annotated: the bounds of the inner value
        return _name(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(_name(argument) for argument in arguments if argument is not type(None))
    return {int: "whole number", float: "number", str: "text", bool: "true or false"}.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, Section):
        return str(default.model_dump()["name"])
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list | tuple):
        return "[" + ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in default) + "]"
    return f"{default:g}" if isinstance(default, float) else str(default)

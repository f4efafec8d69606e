"""Read recipes and cards: safe YAML, ``--set`` overrides, shipped files, and a message for each mistake."""

import difflib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from gcl_custom.counted import counted
from gcl_custom.errors import RecipeError
from gcl_custom.recipe.imagery import Card, DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.section import Section

S = TypeVar("S", bound=Section)
LONGEST_SHOWN = 200
"""Characters of a value that a message shows."""
MOST_MISTAKES = 50
"""Mistakes that a message lists; it counts the rest."""
DEEPEST = 100
"""Brackets within brackets that are read."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as a number and refuses a key that is given twice, and brackets without end."""

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        if self.flow_level >= DEEPEST:
            raise RecursionError  # at once: PyYAML's time grows with the square of the depth
        super().fetch_flow_collection_start(token_class)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf)$"
    ),
    list("-+0123456789."),
)


class _Dumper(yaml.SafeDumper):
    """Quotes each text that the loader would read as something else, such as a band called 1e3."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def parse_yaml(text: str, where: str) -> Any:
    """Plain Python values from safe YAML.

    Args:
        where: what the text is from, for messages.

    Raises:
        RecipeError: it is not valid YAML, or stands for far more than any recipe holds.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if (count := _size(node, {})) > MOST_VALUES:
            raise RecipeError(f"{where}: its aliases (*) stand for {_about(count)} values. Write the values out")
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise RecipeError(f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise RecipeError(f"{where}: not valid YAML: its brackets or indents are too deep") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # of what cannot be a date, a number, a key
        raise RecipeError(f"{where}: not valid YAML: {_cut(str(error))}") from None


MOST_VALUES, MOST_BYTES = 100_000, 2**20


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values that a node stands for, if each alias is written out.

    Args:
        known: the sizes of nodes that are counted already; of those that are being counted, one that is too large.
    """
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # what an alias of a part to its whole stands for
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for entry in inner for part in (entry if isinstance(entry, tuple) else (entry,)))
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _about(count: int) -> str:
    return f"{count:,}" if count < 10**9 else "more than a thousand million"


def read_text(path: Path) -> str:
    """The text of a recipe or a card.

    Raises:
        RecipeError: it cannot be read as text, or is far too large.
    """
    if path.stat().st_size > MOST_BYTES:
        raise RecipeError(f"{path} is too large for a recipe: {path.stat().st_size:,} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecipeError(
            f"{path} is no text in UTF-8. Save it as UTF-8, or give the recipe and not another file"
        ) from None


def shipped(kind: Literal["recipes", "recipes/studies", "datasets"]) -> dict[str, Path]:
    """Name -> path of each recipe, study or card that ships with the package."""
    packaged = Path(str(resources.files("gcl_custom"))) / kind
    folder = packaged if packaged.is_dir() else Path(str(resources.files("gcl_custom"))).parent / kind
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a YAML file, or the name of a recipe that ships with the package.
        overrides: texts ``key.path=value`` with the value in YAML. They are checked like the file.

    Raises:
        RecipeError: there are mistakes. Every one is listed, with its place and what is allowed.
    """
    path, values = read_mapping(path, "recipe")
    if "licence" in values and "data" not in values:
        raise RecipeError(f"{path} is a card, which describes images. Give a recipe, which may name it as data.card")
    for override in overrides:
        _override(values, override)
    return check_values(Recipe, values, str(path))


def read_mapping(given: str | Path, what: Literal["recipe", "study"]) -> tuple[Path, dict[str, Any]]:
    """The path and the keys of a file. Its key ``name`` is by default the file's name without suffix.

    Args:
        given: the file's path, or its name if it ships with the package.

    Raises:
        RecipeError: there is no such file, or it holds no mapping.
    """
    path = Path(given)
    known = shipped("recipes" if what == "recipe" else "recipes/studies")
    if not path.exists() and str(path) in known:
        path = known[str(path)]
    if not path.is_file():
        close = difflib.get_close_matches(path.stem, known, n=1)
        hint = f" Did you mean the shipped {what} {close[0]!r}?" if close else " See: gcl-custom recipes list"
        folder = " and no folder of images of this name" if what == "recipe" else ""
        raise RecipeError(f"There is no {what} file {path}{folder} (looked for from {Path.cwd()}).{hint}")
    values = parse_yaml(read_text(path), str(path))
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a {what} is a mapping of sections, not {type(values).__name__}")
    return path, {"name": path.stem, **values}


def load_card(name: str) -> Card:
    """A data set's card.

    Args:
        name: of a shipped card, or the path of another.

    Raises:
        RecipeError: there is no such card, or it has mistakes.
    """
    path = shipped("datasets").get(name, Path(name))
    if not path.is_file():
        raise RecipeError(
            f"data.card: there is no card {name!r}. Shipped: {', '.join(shipped('datasets'))}; or give a path"
        )
    return check_values(Card, parse_yaml(read_text(path), str(path)), str(path))


def card_of(data: DataSettings) -> Card | None:
    """The card that a recipe names; None if it names none. Raises as ``load_card`` does."""
    return load_card(data.card) if data.card else None


def band_names(data: DataSettings) -> list[str] | None:
    """The names of the bands, in the order in the files, as the recipe or its card states them; None if neither does.

    Raises:
        RecipeError: they state different ones, or there is no such card.
    """
    card = card_of(data)
    of_card = card.bands if card else None
    if data.bands and of_card and data.bands != of_card:
        raise RecipeError(
            f"data.bands {data.bands} are not those of the card {data.card}, {of_card}. Leave data.bands out "
            f"(--set data.bands=null), or "
            f"correct the card"
        )
    return data.bands or of_card


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every default, as YAML from which ``load_recipe`` reads an equal one."""
    return dump_value(recipe.model_dump(mode="json"))


def dump_value(value: object, **how: Any) -> str:
    """A value as YAML from which ``parse_yaml`` reads an equal one."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **how)


def override_of(text: str) -> tuple[str, Any]:
    """The key and the value of a text ``key.path=value``.

    Raises:
        RecipeError: it is written otherwise.
    """
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise RecipeError(f"--set {text!r}: write it as key.path=value, such as --set pretrain.epochs=10")
    return key, parse_yaml(value, f"--set {text}")


def _override(values: dict[str, Any], text: str) -> None:
    key, value = override_of(text)
    *parents, last = key.split(".")
    here = values
    for parent in parents:
        if here.get(parent) is None:  # absent, or null, as a kept recipe has it
            here[parent] = {}
        here = here[parent]
        if not isinstance(here, dict):
            raise RecipeError(f"--set {text!r}: {parent} is a value, not a section")
    here[last] = value


def check_values(model: type[S], values: object, where: str) -> S:
    """Build a section from plain values.

    Args:
        where: what the values are from, for the message.

    Raises:
        RecipeError: there are mistakes, and every one is listed, up to 50.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(model, values, mistake) for mistake in error.errors()]
        count = counted(len(lines), "mistake")
        more = [f"... and {len(lines) - MOST_MISTAKES} more"] if len(lines) > MOST_MISTAKES else []
        listed = "\n".join(f"  - {line}" for line in [*lines[:MOST_MISTAKES], *more])
        raise RecipeError(f"{where}: {count}\n{listed}") from None


def _explain(model: type[Section], values: object, mistake: Any) -> str:
    place = _place(mistake["loc"], values)
    name = ".".join(str(part) for part in place) or f"the {model.__name__.lower()}"
    kind = mistake["type"]
    if kind == "extra_forbidden":
        section = _section_at(model, mistake["loc"][:-1])
        allowed = sorted(section.model_fields) if section else []
        close = difflib.get_close_matches(str(place[-1]), allowed, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"allowed here: {', '.join(allowed)}"
        return f"{name}: unknown key; {hint}"
    if kind == "missing":
        return f"{name}: missing; it has no default, so give a value"
    if kind == "value_error":
        return f"{name}: {mistake['ctx']['error']}"
    if kind == "union_tag_invalid":
        tag, expected = mistake["ctx"]["tag"], mistake["ctx"]["expected_tags"]
        return f"{name}.name: given {_cut(repr(tag))}; it should be one of {expected}{_close(tag, expected)}"
    given = mistake["input"]
    shown = "" if isinstance(given, dict) else f"given {_cut(repr(given))}; "
    message = mistake["msg"][0].lower() + mistake["msg"][1:]
    if kind == "literal_error" and isinstance(given, str):
        message += _close(given, mistake["ctx"]["expected"])
    return f"{name}: {shown}{message}"


def _cut(text: str) -> str:
    """A text that is not too long for a message."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _close(given: str, quoted: str) -> str:
    """A suggestion from a text that quotes what is allowed; empty if nothing is close."""
    close = difflib.get_close_matches(given, re.findall(r"'([^']*)'", quoted), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _place(loc: tuple[Any, ...], values: object) -> list[Any]:
    """The place of an error in the file. The tags of unions are left out, since they are no keys there."""
    here, place = values, []
    for step in loc:
        if isinstance(here, dict) and step not in here and step in _tags(Recipe):
            continue
        place.append(step)
        here = here[step] if isinstance(here, (dict, list)) and _holds(here, step) else None
    return place


@cache
def _tags(model: type[Section]) -> frozenset[str]:
    """The names of all sections among which a recipe chooses."""
    sections = [s for field in model.model_fields.values() for s in _sections_in(field.annotation)]
    own = [name for s in sections if "name" in s.model_fields for name in get_args(s.model_fields["name"].annotation)]
    return frozenset(own).union(*(_tags(section) for section in sections))


def _holds(container: dict[Any, Any] | list[Any], step: object) -> bool:
    if isinstance(container, dict):
        return step in container
    return isinstance(step, int) and step < len(container)


def _section_at(model: type[Section], loc: tuple[Any, ...]) -> type[Section] | None:
    """The section at a place, found through optional values and tagged unions."""
    here: type[Section] = model
    candidates: list[type[Section]] = [model]
    for step in loc:
        tagged = [
            c for c in candidates if "name" in c.model_fields and step in get_args(c.model_fields["name"].annotation)
        ]
        if tagged:
            candidates = tagged
        else:
            annotations = [c.model_fields[step].annotation for c in candidates if step in c.model_fields]
            candidates = [section for annotation in annotations for section in _sections_in(annotation)]
        if not candidates:
            return None
        here = candidates[0]
    return here


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, list, tuple) or get_args(annotation):
        for argument in get_args(annotation):
            yield from _sections_in(argument)

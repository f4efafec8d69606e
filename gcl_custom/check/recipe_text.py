"""A recipe as a text that people read: its keys in YAML, each choice with its reason in a comment above it."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from gcl_custom.console import plain
from gcl_custom.recipe.file import dump_value

WIDTH = 110
"""Most characters of a line."""


def recipe_text(head: str, values: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    """The text.

    Args:
        head: what stands at its top, as comments.
        values: sections and keys, nested.
        reasons: key.path -> why it has its value.
    """
    lines = [*_comment(head, "")]
    for name, value in values.items():
        lines += ["", *_entry(name, value, name, reasons, "")]
    return "\n".join(lines) + "\n"


def _entry(name: str, value: Any, path: str, reasons: Mapping[str, str], indent: str) -> Iterator[str]:
    if path in reasons:
        yield from _comment(reasons[path], indent)
    short = f"{indent}{name}: {_flow(value)}"
    explained = any(key.startswith(f"{path}.") for key in reasons)
    if not isinstance(value, Mapping) or (indent and not explained and len(short) <= WIDTH):
        yield short
        return
    yield f"{indent}{name}:"
    for key, inner in value.items():
        yield from _entry(key, inner, f"{path}.{key}", reasons, f"{indent}  ")


def _comment(text: str, indent: str) -> Iterator[str]:
    """Names of files may hold line breaks and other signs that would end a comment: they are shown as what they are."""
    for line in text.split("\n"):
        shown = plain(line.replace("\t", " ")).replace("\x85", r"\x85")
        for part in textwrap.wrap(shown, WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False) or [
            ""
        ]:
            yield f"{indent}# {part}".rstrip()


def _flow(value: Any) -> str:
    dumped = dump_value(value, default_flow_style=True, width=10**6)
    return dumped.removesuffix("...\n").strip()

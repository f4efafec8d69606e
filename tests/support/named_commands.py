"""The commands that messages of the package tell a user to type, found in its string literals."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import gcl_custom

PACKAGE = Path(gcl_custom.__file__).parent
VERB = r"[a-z][a-z-]*"
ARGUMENT = r"--[a-z][a-z-]*|[^\s<]*[=⟨/][^\s<]*|[A-Z][A-Z_]*(?:\.[a-z]+)?|\w+\.(?:parquet|yaml|safetensors)|timm"
"""An option, a placeholder such as RECIPE, a filled-in value, KEY=VALUE, a path, a file, or a format."""
COMMAND = re.compile(rf"gcl-custom(?: (?:recipes )?{VERB}(?: (?:{ARGUMENT}))*)")


def literals(path: Path) -> Iterator[str]:
    """The texts of a module but for its docstrings; ``⟨expression⟩`` stands for what is filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    passed = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            passed |= {id(part) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else filled(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def filled(part: ast.expr) -> str:
    """The mark of what is filled in. It has no space, so that it is one word."""
    assert isinstance(part, ast.FormattedValue)
    return f"⟨{''.join(ast.unparse(part.value).split())}⟩"


def named_commands() -> list[str]:
    """Each command that some message names, as it stands there, without what ends the sentence."""
    texts = (text for path in sorted(PACKAGE.rglob("*.py")) for text in literals(path))
    return sorted({found.rstrip(".,;:)") for text in texts for found in COMMAND.findall(text)})

"""The house rules, as tests."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gcl_custom"
STAGES = {
    "pack_tiles",
    "fit_tokenizer",
    "tokenise",
    "fit_maskgit",
    "caption",
    "invert_tiles",
    "fit_edit",
    "make_views",
    "cost_benefit",
    "pretrain",
    "compare_supervised",
    "evaluate",
    "report",
    "check",
    "list_weights",
    "embed",
    "export",
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = {str(path.relative_to(PACKAGE).with_suffix("")).replace("/", "."): path for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_go_one_way(name: str) -> None:
    found = imports(FILES[name])
    stages = {stage for stage in STAGES if f"gcl_custom.{stage}" in found}
    assert not stages - {name}, "only the command line imports stages, and it does so by name"
    if name.startswith("generator"):
        assert not any(module.startswith("gcl_custom.methods") for module in found)
    if name.startswith("methods"):
        assert not any(module.startswith("gcl_custom.generator") for module in found)
    if name not in STAGES | {"training", "sharing"}:
        assert not any(module.split(".")[0] == "lightning" for module in found)


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_can_be_read_in_one_sitting(name: str) -> None:
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= 400


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, gcl_custom.cli; print({'torch', 'numpy', 'lightning', 'scipy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_every_module_has_its_tests() -> None:
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert {name.split(".")[-1] for name in FILES} - {"__init__", "errors"} <= tests

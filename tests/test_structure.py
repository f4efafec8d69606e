"""The house rules, as tests."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gcl_custom"
ROOT = "gcl_custom"
ROOMS: dict[str, set[str]] = {
    ROOT: set(),
    "recipe": {ROOT},
    "weights": {ROOT, "recipe"},
    "generator.augment": {ROOT, "recipe"},
    "runs": {ROOT, "recipe", "weights"},
    "measures": {ROOT, "recipe", "weights"},
    "imagery.values": {ROOT, "recipe", "measures"},
    "imagery.collections": {ROOT, "measures"},
    "imagery.places": {ROOT, "recipe"},
    "imagery.scenes": {ROOT, "recipe", "measures", "imagery.values"},
    "imagery.shards": {ROOT, "recipe", "runs"},
    "imagery": {
        *{ROOT, "recipe", "runs", "measures", "imagery.values", "imagery.collections", "imagery.places"},
        *{"imagery.scenes", "imagery.shards"},
    },
    "training.boards": {ROOT, "recipe", "runs"},
    "training": {ROOT, "recipe", "runs", "training.boards"},
    "methods": {ROOT, "recipe", "training"},
    "generator.own": {"recipe", "generator.augment", "measures", "training"},
    "generator.public": {ROOT, "weights", "generator.augment", "generator.own"},
    "generator": {
        *{ROOT, "recipe", "weights", "generator.augment", "runs", "measures", "imagery", "training"},
        *{"generator.own", "generator.public"},
    },
    "views": {ROOT, "recipe", "generator.augment", "runs", "measures", "imagery", "training", "generator"},
    "pretraining": {
        *{ROOT, "recipe", "weights", "runs", "measures", "imagery.values", "imagery", "training", "methods", "views"},
        *{"generator.own", "generator"},
    },
    "evaluation.segmentation": {ROOT, "recipe", "measures", "imagery", "training", "pretraining"},
    "evaluation": {
        *{ROOT, "recipe", "weights", "runs", "measures", "imagery", "training", "generator", "views", "pretraining"},
        "evaluation.segmentation",
    },
    "reporting": {
        *{ROOT, "recipe", "runs", "measures", "imagery.shards", "imagery", "training", "views", "evaluation"},
    },
    "check": {
        *{ROOT, "recipe", "weights", "generator.augment", "runs", "measures", "imagery", "training", "methods"},
        *{
            "training.boards",
            "imagery.collections",
            "imagery.places",
            "imagery.values",
            "imagery.scenes",
            "generator.own",
            "generator",
            "views",
            "pretraining",
            "evaluation",
            "reporting",
        },
    },
    "export": {
        *{ROOT, "recipe", "weights", "runs", "imagery.values", "imagery.collections", "imagery.scenes", "imagery"},
        "imagery.shards",
        "training",
        "pretraining",
        "evaluation",
    },
    "maps": {
        *{ROOT, "recipe", "weights", "runs", "measures", "imagery.values", "imagery.collections", "imagery.places"},
        *{"imagery.scenes", "imagery", "evaluation", "export"},
    },
    "cli": {ROOT, "recipe", "weights", "runs", "imagery.collections", "export"},
}
"""Room -> the rooms that it may import, from the ground up: a room imports only rooms above it in this table."""
STAGES = {
    "imagery.pack_tiles",
    "generator.fit_tokenizer",
    "generator.tokenise",
    "generator.fit_maskgit",
    "generator.caption_tiles",
    "generator.invert_tiles",
    "generator.fit_edit",
    "views.make_views",
    "views.cost_benefit",
    "pretraining.pretrain",
    "evaluation.compare_supervised",
    "evaluation.evaluate",
    "reporting.report",
    "check.beforehand",
    "check.check",
    "check.init_recipe",
    "weights.list_weights",
    "export.embed",
    "export.push_tiles",
    "export.export",
    "maps.map_scenes",
    "maps.similar",
}
ENGINE = "lightning_fabric"
NOT_NEEDED = {"lightning", "pytorch_lightning", "torchmetrics"}
"""Seconds of imports before each training. Tests alone use them."""
BOARDS = "training.boards.kinds"
"""Imports lightning, of an extra, where a recipe asks for a board."""
MOST_LINES, MOST_FILES = 400, 15
UNTESTED = {
    "errors",  # classes without a body
    "cli/options", "methods/by_name",  # tables
    "recipe/hardware", "recipe/methods",  # by the tests of the recipe
}  # fmt: skip
"""Modules without a test file of their name."""


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__")


def room_of(module: str) -> str:
    """The room of a module, both without the package's name; the package itself is the door to ``cli.notebook``."""
    if module == "__init__":
        return "cli"
    return max((room for room in ROOMS if module.startswith(f"{room}.")), key=len, default=ROOT)


def imports(text: str) -> set[str]:
    """All that a file imports, at its top or inside a function: modules, and what is taken from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name for name, path in FILES.items() if path.stem != "__init__"}


def faults(name: str, text: str) -> Iterator[str]:
    """What is wrong with the imports of a file."""
    found = imports(text)
    own = room_of(name)
    for module in MODULES & {imported.removeprefix("gcl_custom.") for imported in found}:
        room = room_of(module)
        if room != own and room not in ROOMS[own]:
            yield f"{name}: {own} may not import {room} ({module})"
        if module in STAGES:
            yield f"{name}: only the command line imports stages, and it does so by name ({module})"
    packages = {module.split(".")[0] for module in found}
    if own.split(".")[0] != "training" and name not in STAGES and ENGINE in packages:
        yield f"{name}: only the room training and the stages import {ENGINE}"
    for package in packages & NOT_NEEDED - ({"lightning"} if name == BOARDS else set()):
        yield f"{name}: {package} is no dependency"


@pytest.mark.parametrize("name", FILES)
def test_imports_go_one_way(name: str) -> None:
    assert not list(faults(name, FILES[name].read_text(encoding="utf-8")))


def test_the_table_of_rooms_goes_one_way() -> None:
    rooms = list(ROOMS)
    for number, room in enumerate(rooms):
        assert ROOMS[room] <= set(rooms[:number])


@pytest.mark.parametrize(
    ("name", "planted", "fault"),
    [
        ("methods.simclr", "from gcl_custom.generator.own.vqgan import VQGAN", "methods may not import generator.own"),
        ("imagery.splits", "def late():\n    from gcl_custom.views import view_store", "imagery may not import views"),
        ("files", "import gcl_custom.recipe.section", "gcl_custom may not import recipe"),
        ("cli.jobs", "from gcl_custom.views import make_views", "it does so by name"),
        ("measures.probes", "import lightning_fabric", "import lightning_fabric"),
        ("training.loop", "from lightning import Trainer", "lightning is no dependency"),
    ],
)  # fmt: skip
def test_a_planted_arrow_is_found(name: str, planted: str, fault: str) -> None:
    assert any(fault in found for found in faults(name, f"{FILES[name].read_text(encoding='utf-8')}\n{planted}\n"))


@pytest.mark.parametrize("name", FILES)
def test_files_can_be_read_in_one_sitting(name: str) -> None:
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_and_says_what_it_is_for(room: str) -> None:
    assert sum(room_of(module) == room for module in MODULES) <= MOST_FILES
    if room != ROOT:
        (docstring,) = ast.parse(FILES[room].read_text(encoding="utf-8")).body
        assert ast.get_docstring(ast.Module([docstring], []))


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [("import gcl_custom.cli.main", {"torch", "numpy", "timm", "lightning_fabric", "scipy"}),
     ("import gcl_custom; dir(gcl_custom)", {"torch", "numpy", "pydantic", "yaml"}),
     ("import gcl_custom; gcl_custom.run", {"torch", "lightning_fabric"}),
     ("import gcl_custom.reporting.report", {"timm", "lightning_fabric", "torchvision", "sklearn"}),
     ("import gcl_custom.check.beforehand, gcl_custom.check.check", {"timm", "lightning_fabric", "torchvision"})],
)  # fmt: skip
def test_help_and_the_package_import_nothing_heavy(statement: str, heavy: set[str]) -> None:
    code = f"import sys; {statement}; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_training_begins_without_the_trainer() -> None:
    """As where only the dependencies are installed. Fabric itself imports torchmetrics wherever it is there."""
    absent = {*NOT_NEEDED, "lightly", "transformers", "diffusers"}
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))  # so importing them fails
from gcl_custom.cli.jobs import STAGES
for stage in ("beforehand", "backbone", "tiles", "tokenizer", "maskgit", "views", "pretrain", "compare", "report"):
    __import__("gcl_custom." + STAGES[stage][0])
print(sorted({{"lightning_fabric", "timm", "sklearn", "onnx"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['lightning_fabric', 'timm']"


def test_every_module_has_its_tests_in_the_room_of_its_name() -> None:
    here = Path(__file__).parent
    tests = {str(path.relative_to(here).parent / path.stem).replace("test_", "") for path in here.rglob("test_*.py")}
    lacking = {name.replace(".", "/") for name in MODULES} - tests
    assert not lacking - UNTESTED


def test_every_module_whose_signatures_name_shapes_is_checked_while_tests_run(request: pytest.FixtureRequest) -> None:
    checked = request.config.getoption("jaxtyping_packages").split(",")
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if "from jaxtyping import" in path.read_text(encoding="utf-8"):
            assert any(f"{name}.".startswith(f"{room}.") for room in checked), name

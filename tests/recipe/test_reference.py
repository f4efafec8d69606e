"""The page of keys: written from the grammar, every key once and with its meaning."""

from pathlib import Path

import pytest

from gcl_custom.recipe.file import load_recipe
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.reference import COMMON, _tables, reference

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"


def test_the_page_is_what_the_grammar_says() -> None:
    """To mend it: gcl-custom recipes keys > docs/recipe.md"""
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_a_row_has_type_bounds_default_and_meaning() -> None:
    rows = reference().splitlines()
    assert (
        "| `views.mask_probability` | number, > 0, ≤ 1 | 0.25 | Share of tokens hidden, each independently. |" in rows
    )
    momentum = "| `pretrain.optimizer.momentum` | number, ≥ 0, < 1 | 0.9 |"
    below = rows[rows.index("### pretrain.optimizer: lars") :]
    assert any(row.startswith(momentum) for row in below[: below.index("### pretrain.optimizer: adamw")])
    assert any(row.startswith("| `data.root` | text | required |") for row in rows)
    assert any(row.startswith("| `compare.seeds` | list of whole numbers | [0, 1, 2] |") for row in rows)


def test_every_key_has_a_meaning() -> None:
    assert [key for table in _tables() for key in table.keys if not key.meaning] == []


def test_every_section_has_its_heading_in_the_order_of_a_recipe() -> None:
    headings = [line.removeprefix("## ") for line in reference().splitlines() if line.startswith("## ")]
    sections = [name for name in Recipe.model_fields if name not in ("name", "seed")]
    assert headings[2:] == sections


def test_no_key_stands_twice_for_the_same_choice() -> None:
    places = [(table.title, key.path) for table in _tables() for key in table.keys]
    assert len(places) == len(set(places))


def test_the_common_keys_come_first_and_can_be_set() -> None:
    first = reference().split("## ")[1]
    assert [line.split("`")[1] for line in first.splitlines() if line.startswith("| `")] == list(COMMON)
    assert len(set(COMMON)) == len(COMMON) == 25
    assert all(line.endswith(". |") for line in first.splitlines() if line.startswith("| `"))
    assert "| 0.2 (lars); 0.001 (adamw) |" in first


@pytest.mark.parametrize("choice", ["pretrain.method.name=byol", "pretrain.optimizer.name=adamw"])
def test_a_choice_is_made_by_the_key_of_its_row(choice: str) -> None:
    section, name = choice.removeprefix("pretrain.").split(".name=")
    assert getattr(load_recipe("quickstart", [f"pretrain.{section}={{name: {name}}}"]).pretrain, section).name == name
    assert f"### pretrain.{section}: {name}" in reference()

from pathlib import Path

from gcl_custom.recipe.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"


def test_the_page_is_what_the_grammar_says() -> None:
    """To mend it: gcl-custom recipes keys > docs/recipe.md, below its heading."""
    assert PAGE.read_text(encoding="utf-8").split("\n\n", 2)[2] == reference()


def test_a_row_has_type_bounds_default_and_meaning() -> None:
    rows = reference().splitlines()
    assert (
        "| `views.mask_probability` | number, > 0, ≤ 1 | 0.25 | Share of tokens hidden, each independently. |" in rows
    )
    assert any(row.startswith("| `pretrain.optimizer (lars).momentum` | number, ≥ 0, < 1 | 0.9 |") for row in rows)
    assert any(row.startswith("| `data.root` | text | required |") for row in rows)

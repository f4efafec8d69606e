"""Recipes of odd bytes, odd shapes and odd values end in one message, whatever they hold."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import TINY

from gcl_custom.errors import RecipeError
from gcl_custom.recipe.file import check_values, load_card, load_recipe, parse_yaml, shipped
from gcl_custom.recipe.recipe import Recipe

ALIASES = "x0: &x0 [1, 2]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 41))
MERGED = "x0: &x0 {a: 1}\n" + "".join(f"x{n}: &x{n} {{<<: [*x{n - 1}, *x{n - 1}]}}\n" for n in range(1, 41))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{ALIASES}data: {{root: x}}\npretrain: {{epochs: *x40}}", "stand for more than a thousand million"),
        (f"{MERGED}data: {{root: x}}\npretrain: *x40", r"aliases \(\*\) stand for"),
        ("data: &a {root: *a}", r"aliases \(\*\) stand for"),
        ("[" * 20_000, "brackets or indents are too deep"),
        ("a: " + "{b: " * 20_000, "brackets or indents are too deep"),
        (random.Random(1).randbytes(1000), "no text in UTF-8"),
        ("data: {root: käse}".encode("latin-1"), "no text in UTF-8"),
        (b"\x00\x01\x02", "not valid YAML"),
        ("data: {root: 2024-99-99}", "not valid YAML: month must be"),
        (f"seed: {'9' * 5000}", "not valid YAML: Exceeds the limit"),
        ("? [a, b]\n: c", "not valid YAML"),
        ("? {a: b}\n: c", "not valid YAML"),
        ("x" * 2**21, "too large for a recipe: 2,097,152 bytes"),
        ("", "a mapping of sections, not NoneType"),
    ],
    ids=["doubling aliases", "doubling merges", "a circle", "brackets", "braces", "random bytes", "latin-1", "zeros",
         "no date", "5,000 digits", "a list as key", "a mapping as key", "2 MB", "nothing"],
)  # fmt: skip
def test_a_recipe_of_odd_bytes_is_refused_at_once(tmp_path: Path, content: str | bytes, message: str) -> None:
    path, start = tmp_path / "odd.yaml", time.process_time()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert time.process_time() - start < 10
    assert len(str(caught.value)) < 2000
    with pytest.raises(RecipeError):
        load_card(str(path))


def test_aliases_of_an_honest_size_are_read() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: [*x, *x]", "test") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        check_values(Recipe, {"name": "r", "data": {"root": "x"}, "pretrain": {"epochs": [7] * 50_000}}, "test")
    assert "pretrain.epochs: given [7, 7, " in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrain.batch=1000000000", "less than or equal to 131072"),
        ("generator.tokenizer.channels=1000000", "less than or equal to 4096"),
        ("pretrain.crop_size=100000", "less than or equal to 1024"),
        ("pretrain.small_crops.size=100000", "less than or equal to 1024"),
        ("hardware.devices=1000", "less than or equal to 256"),
        ("pretrain.optimizer.learning_rate=1e400", "a finite number"),
        ("pretrain.optimizer.learning_rate=1e300", "less than or equal to 1000"),
        ("pretrain.optimizer.weight_decay=.inf", "a finite number"),
        ("hardware.checkpoint_minutes=1e400", "a finite number"),
        ("pretrain.epochs=100000000000000000000000", "less than or equal to 1000000000"),
        ("pretrain.epochs=1e23", "a valid integer"),
        ("seed=-1", "greater than or equal to 0"),
        ("seed=12345678901234567890123456", "less than 4294967296"),
        ("compare.seeds=[-1]", "greater than or equal to 0"),
        ("compare.seeds=[12345678901234567890123456]", "less than 4294967296"),
        ("data.split.seed=-1", "greater than or equal to 0"),
        (f"name={'n' * 300}", "at most 200 characters"),
        ("pretrain.method.projector=[100000000]", "less than or equal to 65536"),
    ],
)
def test_numbers_that_no_machine_can_count_to_are_refused(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: {root: x}")
    with pytest.raises(RecipeError, match=f"given .*{message}"):
        load_recipe(path, [override])


ODD: list[Any] = [
    None, True, 0, -1, 10**30, 2**63, 1e400, float("nan"), -1e-320, "", "x" * 5000, "\x00", "\ud800", "../..", [], {},
    [[]], [None], {"name": []}, {"name": {}}, {"name": None}, {"name": "no"}, {1: 2}, {None: None}, {(1, 2): 3},
    b"\xff", [0.5, 0.1], [1] * 1000, {"a": {"b": {"c": 1}}}, "1e3", 0.5, 3, {"name": "random"},
    {"name": "tokens", "x": 1},
]  # fmt: skip


def mutated(values: Any, draw: random.Random) -> Any:
    """The same values, some of them replaced, renamed, doubled or left out."""
    if not isinstance(values, dict) or draw.random() < 0.02:
        return draw.choice(ODD) if draw.random() < 0.04 else values
    changed = {key: mutated(value, draw) for key, value in values.items() if draw.random() > 0.01}
    if draw.random() < 0.05:
        changed[draw.choice(["name", "weights", "epochs", 7, None, "", "x" * 300])] = draw.choice(ODD)
    return changed


def refusal(read: Callable[[], object]) -> str | None:
    """The message with which a recipe is refused; None for a valid one."""
    try:
        read()
    except RecipeError as error:
        return str(error)
    return None


def test_mutated_recipes_are_valid_or_refused_with_a_message() -> None:
    bases = [yaml.safe_load(TINY)] + [yaml.safe_load(path.read_text()) for path in shipped("recipes").values()]
    draw, start, outcomes = random.Random(16), time.process_time(), {True: 0, False: 0}
    for number in range(400):
        values = mutated({"name": "fuzz", **draw.choice(bases)}, draw)
        message = refusal(lambda values=values: check_values(Recipe, values, "fuzz"))
        outcomes[message is None] += 1
        assert len(message or "") < 20_000, number
    assert time.process_time() - start < 20
    assert min(outcomes.values()) > 20, "recipes of both kinds were tried"


def test_mutated_texts_are_read_or_refused_with_a_message(tmp_path: Path) -> None:
    draw, start, path = random.Random(33), time.process_time(), tmp_path / "recipe.yaml"
    for _ in range(300):
        text = bytearray(TINY.encode())
        for _ in range(draw.randint(1, 6)):
            place = draw.randrange(len(text))
            text[place : place + draw.randint(0, 8)] = draw.choice(
                [b"&a ", b"*a", b"[", b"}", b": ", b"\n", b"\t", b"!!python/name:os.system", b"<<: ", b"? ", b"- ",
                 b"\xff", b"1e999", b"'", b"|", b"0x", b"1:2:3", b"2024-13-01", b"%", b"\x00", draw.randbytes(3)]
            )  # fmt: skip
        path.write_bytes(bytes(text))
        assert len(refusal(lambda: load_recipe(path)) or "") < 20_000
    assert time.process_time() - start < 20

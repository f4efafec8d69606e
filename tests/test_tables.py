from pathlib import Path

import pytest
from rich.console import Console

from gcl_custom import console, tables
from gcl_custom.files import read_json


def test_a_table_as_markdown_has_a_line_for_the_head_a_rule_and_each_row() -> None:
    assert tables.markdown(["a", "b"], [["1", "2"], ["3", ""]]) == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |  |\n"


def shown(columns: list[str], rows: list[list[str]], width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(console, "console", Console(width=width))
    with console.console.capture() as captured:
        tables.show(columns, rows)
    return [line.strip() for line in captured.get().splitlines() if line.strip()]


def test_text_in_brackets_is_shown_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    head, _, row = shown(["a [red]", "b"], [["[bold]", "2"]], 80, monkeypatch)
    assert head.split() == ["a", "[red]", "b"]
    assert row.split() == ["[bold]", "2"]


def test_in_a_narrow_terminal_names_stay_on_a_line_and_words_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["a name of some length", "0.123", "12,345", "better than before"], ["other", "1", "2", ""]]
    lines = shown(["name", "feature distance", "seconds", "outcome"], rows, 20, monkeypatch)
    words = [word for line in lines for word in line.split()]
    assert [line.split()[-2:] for line in lines if line.startswith("a name of some length")] == [["12,345", "better"]]
    assert {"feature", "distance", "seconds", "outcome", "0.123", "12,345", "than", "before"} <= set(words)


@pytest.mark.parametrize("width", [20, 60, 80, 100, 140])
def test_a_long_word_pushes_no_column_out(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "weights/a/path/that/is/quite/long/and/has/no/space.safetensors"
    rows = [["first.key", "what it is, in several words", "under some licence", path, "missing"]]
    words = {word for line in shown(["a", "b", "c", "d", "e"], rows, width, monkeypatch) for word in line.split()}
    assert {"first.key", "several", "licence", path, "missing", "a", "b", "c", "d", "e"} <= words


def test_with_room_for_all_nothing_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["key", "what it is, in several words", "under some licence"]]
    assert len(shown(["a", "b", "c"], rows, 80, monkeypatch)) == 3


def test_what_is_published_is_on_the_disk_and_on_the_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables.publish(tmp_path / "new", {"b": 1}, ["a"], [["row 1"]], "What to know.")
    assert read_json(tmp_path / "new" / "results.json") == {"b": 1}
    assert (tmp_path / "new" / "table.md").read_text(encoding="utf-8") == "| a |\n|---|\n| row 1 |\n\nWhat to know.\n"
    said = capsys.readouterr().out
    assert said.index("row 1") < said.index("What to know.")
    tables.publish(tmp_path / "new", {}, ["a"], [])
    assert (tmp_path / "new" / "table.md").read_text(encoding="utf-8") == "| a |\n|---|\n"

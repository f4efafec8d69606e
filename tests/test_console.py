import io

import pytest
from rich.console import Console
from rich.table import Table

from gcl_custom import console


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    out = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=out, width=300, highlight=False))
    return out


def test_text_stands_as_it_is(log: io.StringIO) -> None:
    console.say("tiles[0] of [bold] c:/x")
    console.warn("codes [3] unused")
    assert log.getvalue() == "tiles[0] of [bold] c:/x\nwarning: codes [3] unused\n"


ODD = "[red]a[/x] :x: \\[b] \x1b[31mc\x07 \x85\u2028\r\ud800 [/]"
SHOWN = r"[red]a[/x] :x: \[b] \x1b[31mc\x07 \x85\u2028\r\ud800 [/]"


def test_text_from_elsewhere_is_shown_as_it_is_in_lines_and_in_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.console, "_width", 300)
    console.say(ODD)
    console.warn(ODD)
    console.fail(ODD)
    table = Table("name", title=ODD)
    table.add_row(ODD)
    console.console.print(table)
    assert capsys.readouterr().out.count(SHOWN) == 5
    console.say("two\n\tlines, ä, 火")
    assert capsys.readouterr().out.startswith("two\n")


def test_without_a_terminal_progress_is_a_line_now_and_then(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 10.0, 20.0, 25.0, 40.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress(100, "views") as ticker:
        ticker.skip(20)
        for _ in range(4):
            ticker.advance(10)
            ticker.note("loss 3")
    assert log.getvalue().splitlines() == [
        "views: 40/100 tiles, 1/s, 1 min 00 s left  loss 3",
        "views: 60/100 tiles, 1/s, 40 s left  loss 3",
    ]


def test_the_time_left_is_that_of_what_there_is_left_to_do(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 10.0, 20.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress(100, "views") as ticker:
        ticker.advance(10)
        ticker.limit(30)
        ticker.advance(10)
    assert log.getvalue().splitlines() == ["views: 20/30 tiles, 1/s, 10 s left  "]


def test_in_a_terminal_progress_is_a_bar_with_rate_and_note(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=out, width=160, force_terminal=True))
    with console.progress(20, "views") as ticker:
        ticker.skip(5)
        ticker.advance(5)
        ticker.limit(10)
        ticker.note("loss 3")
    assert "10/10" in out.getvalue()
    assert "tiles/s" in out.getvalue()
    assert "loss 3" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (185.0, "3 min 05 s"), (7620.0, "2 h 07 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_only_the_first_rank_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert console.is_first_rank()
    for odd in ("", " ", "zero", "0"):  # a first rank that nobody hears could not say what is wrong
        monkeypatch.setenv("RANK", odd)
        assert console.is_first_rank()
    monkeypatch.setenv("RANK", "1")
    assert not console.is_first_rank()


def test_bytes_are_shown_to_three_digits() -> None:
    assert [console.in_bytes(count) for count in (7, 1999, 1_710_000_000, 252 * 10**9, 2 * 10**12)] == [
        "7 B", "2 kB", "1.71 GB", "252 GB", "2,000 GB",
    ]  # fmt: skip
    assert [console.in_bytes(count) for count in (999, 999_499_999, 999_500_000)] == ["999 B", "999 MB", "1 GB"]

from gcl_custom import console, tables


def test_a_table_as_markdown_has_a_line_for_the_head_a_rule_and_each_row() -> None:
    assert tables.markdown(["a", "b"], [["1", "2"], ["3", ""]]) == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |  |\n"


def test_text_in_brackets_is_shown_as_it_stands() -> None:
    with console.console.capture() as captured:
        tables.show(["a [red]", "b"], [["[bold]", "2"]])
    assert "a [red]" in captured.get()
    assert "[bold]" in captured.get()

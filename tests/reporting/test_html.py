from gcl_custom.reporting import html


def test_texts_of_a_table_are_escaped_and_each_cell_knows_its_column() -> None:
    rows = [("<b>row</b>", [html.text("a < b"), html.text("7", number=True)])]
    shown = html.table(["", "one & two", '"n"'], rows, [False, True])
    assert '<tr><th></th><th>one &amp; two</th><th class="number">&quot;n&quot;</th></tr>' in shown
    assert '<td data-of="one &amp; two">a &lt; b</td><td class="number" data-of="&quot;n&quot;">7</td>' in shown
    assert "&lt;b&gt;row&lt;/b&gt;" in shown


def test_a_picture_is_embedded_and_described() -> None:
    assert html.picture(b"png", "<x>") == '<img alt="&lt;x&gt;" src="data:image/png;base64,cG5n">'

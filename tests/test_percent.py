from gcl_custom.percent import percent, points


def test_figures_have_as_many_decimals_as_the_tiles_carry() -> None:
    assert percent(0.78256, 200) == "78.3\N{NO-BREAK SPACE}%"
    assert percent(0.78256, 199) == "78\N{NO-BREAK SPACE}%"
    assert [points(d, 500) for d in (0.0123, -0.0123, 0.0004)] == ["+1.2 points", "−1.2 points", "0.0 points"]
    assert [points(d, 100) for d in (0.01, -0.012, 0.03, 0.001)] == ["+1 point", "−1 point", "+3 points", "0 points"]

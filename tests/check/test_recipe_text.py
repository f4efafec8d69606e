import yaml

from gcl_custom.check.recipe_text import WIDTH, recipe_text


def test_the_text_holds_the_values_and_each_reason_stands_above_its_key() -> None:
    values = {"data": {"root": "a b: c", "size": 64}, "pretrain": {"method": {"name": "vicreg", "projector": [8, 8]}}}
    text = recipe_text("head\n  gcl-custom run x", values, {"data.size": "why " * 60, "pretrain.method.name": "since"})
    assert yaml.safe_load(text) == values
    assert text.startswith("# head\n#   gcl-custom run x\n\ndata:\n  root: 'a b: c'\n  # why why")
    assert "\n    # since\n    name: vicreg\n    projector: [8, 8]\n" in text
    assert all(len(line) <= WIDTH for line in text.splitlines())


def test_a_name_with_line_breaks_ends_no_comment() -> None:
    text = recipe_text("h", {"data": {"root": "x\ny"}}, {"data.root": "class a\rdata: 1\x85data: 2\u2028data: 3"})
    assert yaml.safe_load(text) == {"data": {"root": "x\ny"}}

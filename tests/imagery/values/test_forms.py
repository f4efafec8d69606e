from gcl_custom.imagery.values.forms import Unusable


def test_a_reason_is_its_kind_and_what_is_known_of_this_file() -> None:
    assert str(Unusable("not an image")) == "not an image"
    assert str(Unusable("nodata", "62% of its pixels")) == "nodata (62% of its pixels)"

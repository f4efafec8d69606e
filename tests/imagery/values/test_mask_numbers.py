import numpy as np
import pytest

from gcl_custom.imagery.values.forms import Unusable
from gcl_custom.imagery.values.mask_numbers import mask_of


def test_numbers_stay_and_what_is_no_class_becomes_255() -> None:
    values = np.array([[[0, 7, -1], [255, 254, 3]]], dtype=np.int16)
    found = mask_of(values, None)
    assert (found.values.tolist(), found.hidden) == ([[0, 7, 255], [255, 254, 3]], True)
    found = mask_of(values.astype(np.float32), np.array([[True, False, True], [True, True, True]]))
    assert (found.values.tolist(), found.hidden) == ([[0, 255, 255], [255, 254, 3]], True)
    assert not mask_of(np.abs(values), None).hidden


def test_bands_that_agree_are_one() -> None:
    number = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    opaque = np.full_like(number, 255)
    for bands in ([number] * 3, [number, opaque], [number, number, number, opaque]):
        assert np.array_equal(mask_of(np.concatenate(bands), None).values, number[0])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(12, dtype=np.uint8).reshape(3, 2, 2), "colours"),
        (np.full((1, 2, 2), 0.5), "type of values"),
        (np.full((1, 2, 2), 256, dtype=np.uint16), "class number"),
    ],
)
def test_other_values_are_no_mask(values: np.ndarray, kind: str) -> None:
    with pytest.raises(Unusable) as refused:
        mask_of(values, None)
    assert refused.value.kind == kind

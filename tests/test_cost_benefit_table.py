from typing import Any

from gcl_custom.cost_benefit_table import COLUMNS, note, table

ROW = {
    "name": "in-painting, p = 0.25", "feature_distance": 123.456, "ssim": 0.71868, "perceptual_distance": 0.0123456,
    "ms_alone": 45.678, "ms_at_best": 3.21098, "best_batch": 64, "parameters": 1234567, "megabytes": 0.0,
    "megabytes_of_1000_views": 12.288,
}  # fmt: skip
RESULTS: dict[str, Any] = {
    "tiles": 99, "split": "valid", "size": 64, "feature_network": "a network", "device": "a processor, 2 threads",
    "precision": "bf16", "floor": 98.7654, "augmentations": [ROW],
}  # fmt: skip


def test_rows_are_the_floor_and_the_augmentations_in_three_digits() -> None:
    columns, (floor, row) = table(RESULTS)
    assert columns == list(COLUMNS.values())
    assert floor[1:] == ["98.8", *[""] * 8]
    expected = ["123", "0.719", "0.0123", "45.7", "3.21", "64", "1.23", "0", "12.3"]
    assert row == ["in-painting, p = 0.25", *expected]


def test_the_note_says_on_what_and_by_what_it_was_measured() -> None:
    said = note(RESULTS)
    assert all(text in said for text in ("99 validation tiles of 64 px", "a network", "a processor, 2 threads, bf16"))
    assert "blur, drawn in pixels, is relatively gentler" in said

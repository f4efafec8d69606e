from cost_benefit_results import RESULTS, ROW

from gcl_custom.views.cost_benefit_table import note, table


def test_rows_are_the_floor_and_the_augmentations_in_three_digits() -> None:
    columns, (floor, row) = table(RESULTS)
    assert columns[:3] == ["augmentation", "feature distance", "SSIM"]
    assert floor[1:] == ["98.8", *[""] * 8]
    expected = ["123", "0.719", "0.0123", "45.7", "3.21", "64", "1.23", "0", "12.3"]
    assert row == ["in-painting, p = 0.25", *expected]


def test_the_note_says_on_what_and_by_what_it_was_measured() -> None:
    said = note(RESULTS)
    assert all(text in said for text in ("99 validation tiles of 64 px", "a network", "a processor, 2 threads, bf16"))
    assert "blur, drawn in pixels, is relatively gentler" in said


def test_fid_has_a_column_where_it_was_measured_and_a_word_on_few_tiles() -> None:
    measured = RESULTS | {
        "fid_network": "Inception", "fid_floor": 51.5, "without_fid": "", "augmentations": [ROW | {"fid": 61.25}],
    }  # fmt: skip
    columns, (floor, row) = table(measured)
    assert columns[:4] == ["augmentation", "feature distance", "FID", "SSIM"]
    assert (floor[2], row[2]) == ("51.5", "61.2")
    assert "FID: that distance on Inception" in note(measured)
    assert "same number of tiles; 99 are fewer than its 2,048 features" in note(measured)
    assert "fewer than" not in note(measured | {"tiles": 2048})


def test_where_fid_was_not_measured_the_note_says_why() -> None:
    assert "FID was not measured." in note(RESULTS | {"fid_network": None, "without_fid": "FID was not measured."})

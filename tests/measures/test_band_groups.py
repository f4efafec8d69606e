from gcl_custom.measures.band_groups import band_groups


def test_groups_of_three_bands_cover_every_band() -> None:
    assert band_groups(1) == [[0, 0, 0]]
    assert band_groups(2) == [[0, 1, 0]]
    assert band_groups(3) == [[0, 1, 2]]
    assert band_groups(5) == [[0, 1, 2], [3, 4, 0]]
    assert {band for group in band_groups(13) for band in group} == set(range(13))

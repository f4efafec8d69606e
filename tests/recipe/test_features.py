"""Feature networks: which of them take weights from elsewhere, and in which groups they see bands."""

from gcl_custom.recipe.features import EfficientNetLite0Settings, Vgg16Settings, WithoutNetworkSettings, band_groups


def test_only_vgg16_names_weights_and_no_view_is_made_with_them() -> None:
    assert EfficientNetLite0Settings().named_weights == []
    assert WithoutNetworkSettings(name="none").named_weights == []
    (weights,) = Vgg16Settings(name="vgg16", weights="here/vgg16.pth").named_weights
    assert (weights.key, weights.choice, weights.given) == ("weights", "vgg16", "here/vgg16.pth")
    assert not weights.makes_views
    assert weights.below("generator.features").key == "generator.features.weights"
    assert weights.without_folders == "vgg16.pth"


def test_groups_of_three_bands_cover_every_band() -> None:
    assert band_groups(1) == [[0, 0, 0]]
    assert band_groups(2) == [[0, 1, 0]]
    assert band_groups(3) == [[0, 1, 2]]
    assert band_groups(5) == [[0, 1, 2], [3, 4, 0]]
    assert {band for group in band_groups(13) for band in group} == set(range(13))

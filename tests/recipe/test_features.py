"""Feature networks: which of them take weights from elsewhere."""

from gcl_custom.recipe.features import EfficientNetLite0Settings, Vgg16Settings, WithoutNetworkSettings


def test_only_vgg16_names_weights_and_no_view_is_made_with_them() -> None:
    assert EfficientNetLite0Settings().named_weights == []
    assert WithoutNetworkSettings(name="none").named_weights == []
    (weights,) = Vgg16Settings(name="vgg16", weights="here/vgg16.pth").named_weights
    assert (weights.key, weights.choice, weights.given) == ("weights", "vgg16", "here/vgg16.pth")
    assert not weights.makes_views
    assert weights.below("generator.features").key == "generator.features.weights"
    assert weights.without_folders == "vgg16.pth"

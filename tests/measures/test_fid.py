"""FID's network with random weights in the public file's format, against torchmetrics and torch-fidelity."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from gcl_custom.errors import UserError
from gcl_custom.measures import fid
from gcl_custom.measures.feature_networks import frechet_distance
from gcl_custom.measures.fid import FidNetwork


@pytest.fixture(scope="module")
def two_sets() -> tuple[Tensor, Tensor]:
    """Images as they are stored, 8 bits, and others, darker and smoother."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 256, (3, 3, 40, 40), generator=generator, dtype=torch.uint8)
    smooth = torch.nn.functional.avg_pool2d(first.float(), 5, stride=1, padding=2)
    return first, (0.7 * smooth).byte()


def test_fid_is_that_of_torchmetrics_features_and_torch_fidelitys_formula(
    fid_weights: Path, two_sets: tuple[Tensor, Tensor]
) -> None:
    network = FidNetwork(fid_weights)
    features = [network.pooled(images / 255) for images in two_sets]
    theirs = FrechetInceptionDistance(feature_extractor_weights_path=str(fid_weights), antialias=False).inception
    others = [theirs(images) for images in two_sets]
    torch.testing.assert_close(features, others, atol=1e-5, rtol=1e-5)
    # A turn of all features together leaves FID as it is: from 2,048 numbers into the few that images so few span.
    basis = torch.linalg.qr(torch.cat(others).double().T).Q
    statistics = [fid_features_to_statistics(other.double() @ basis) for other in others]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    # Their formula takes roots of eigenvalues that are 0 up to rounding.
    assert frechet_distance(*features) == pytest.approx(expected, rel=1e-4)
    assert expected > 1.0


def test_images_are_resized_as_tensorflow_1_did_and_not_smoothed(
    fid_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output pixel i stands at i * 2 / 299 of two pixels: no half-pixel shift, and the last one is repeated."""
    seen: list[Tensor] = []

    def resize(x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
        seen.append(interpolate_bilinear_2d_like_tensorflow1x(x, size=size, align_corners=align_corners))
        return seen[-1]

    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.interpolate_bilinear_2d_like_tensorflow1x", resize
    )
    image = torch.tensor([0.0, 1.0]).expand(1, 3, 2, 2)
    FidNetwork(fid_weights).pooled(image)
    expected = (255 * torch.arange(299) * 2 / 299).clamp(max=255)
    torch.testing.assert_close(seen[0][0, 0, 0], expected, atol=1e-3, rtol=0)


def test_a_file_that_a_converter_wrote_without_counters_is_the_same(fid_weights: Path, tmp_path: Path) -> None:
    state = torch.load(fid_weights, weights_only=True)
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, tmp_path / "converted.pth")
    image = torch.rand(1, 3, 32, 32)
    expected = FidNetwork(fid_weights).pooled(image)
    assert torch.equal(FidNetwork(tmp_path / "converted.pth").pooled(image), expected)


def test_weights_that_are_missing_or_do_not_fit_are_named(fid_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cost_benefit\.fid_weights: there are no weights at .*nowhere\.pth"):
        FidNetwork(tmp_path / "nowhere.pth")
    state = torch.load(fid_weights, weights_only=True)
    state |= {"AuxLogits.fc.bias": state.pop("fc.bias"), "fc.weight": state["fc.weight"][:1000]}
    torch.save(state, tmp_path / "w.pth")  # much as torchvision's own Inception has it
    with pytest.raises(UserError) as caught:
        FidNetwork(tmp_path / "w.pth")
    assert str(caught.value) == (
        f"cost_benefit.fid_weights: {tmp_path / 'w.pth'} does not fit InceptionV3: missing fc.bias; "
        "surplus AuxLogits.fc.bias; fc.weight is (1000, 2048), not (1008, 2048)"
    )


class Trainer:
    """Stands for whatever a pickle may name."""


def test_a_pickle_that_holds_more_than_tensors_is_not_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "trainer": Trainer()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="is a pickle that holds more than tensors"):
        FidNetwork(tmp_path / "w.pth")


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'gcl-custom\[fid\]'"):
        FidNetwork(Path("w.pth"))


def test_what_keeps_fid_from_being_measured_is_said() -> None:
    assert fid.lacking("w.pth", 3) == ""
    assert "gcl-custom weights RECIPE --download --set cost_benefit.fid_weights=weights/" in fid.lacking(None, 3)
    assert "these tiles have 4." in fid.lacking(None, 4)
    assert "have 4, so what cost_benefit.fid_weights names was not loaded." in fid.lacking("w.pth", 4)

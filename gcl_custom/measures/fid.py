"""The network of FID, from torch-fidelity, with weights from a local file.

FID (arXiv:1706.08500) is the Fréchet distance on the 2,048 pooled features of one particular network: Inception v3 with
TensorFlow's weights of 2015. It sees 8-bit images of red, green and blue, resized to 299 px by the bilinear resize of
TensorFlow 1, which does not antialias. Another network, other weights or another resize give other values.

torchmetrics has the same network, by default with another resize. It and torch-fidelity unpickle the file of weights,
which may run code; here the file is read as tensors only, and nothing is downloaded.

Shapes: b tiles, h w pixels.
"""

import importlib.util
import io
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.weights.catalogue import FID_FILE
from gcl_custom.weights.state_dicts import fit_state, read_state

WEIGHTS = "cost_benefit.fid_weights"
FEATURES = 2048


class FidNetwork(nn.Module):
    """The Inception v3 of FID, frozen, in fp32.

    Args:
        path: weights-inception-2015-12-05-6726825d.pth, or another file with its tensors.

    Raises:
        UserError: torch-fidelity is not installed, or the weights are missing or do not fit.
    """

    name = "Inception v3 (TensorFlow's, 2015)"

    def __init__(self, path: Path) -> None:
        super().__init__()
        if importlib.util.find_spec("torch_fidelity") is None:
            raise UserError(f"{WEIGHTS} needs torch-fidelity. Run: pip install 'gcl-custom[fid]'")
        found = read_state(path, WEIGHTS)
        self.network = _inception()
        # Counters of training batches are not used here, and converted files lack them.
        counters = {name: v for name, v in self.network.state_dict().items() if name.endswith("num_batches_tracked")}
        fit_state(f"{WEIGHTS}: {path}", counters | found, self.network)

    @torch.no_grad()
    def pooled(self, tiles: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Features of tiles in [0, 1], which are first rounded to 8 bits, since FID is defined on stored images."""
        with torch.autocast(tiles.device.type, enabled=False):
            (features,) = self.network((255 * tiles.float().clamp(0, 1)).round().byte())
        return features


def _inception() -> Any:
    """torch-fidelity's network without weights, which its constructor would otherwise read at once."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # an optional extra

    class InceptionV3(FeatureExtractorInceptionV3):  # type: ignore[misc]  # its library states no types
        def load_state_dict(self, state: dict[str, Tensor], *args: Any, **options: Any) -> Any:
            return super().load_state_dict(state or self.state_dict(), *args, **options)

    torch.save({}, nothing := io.BytesIO())
    nothing.seek(0)
    return InceptionV3("inception-v3-compat", [str(FEATURES)], nothing)


def lacking(weights: str | None, bands: int) -> str:
    """Why FID is not measured, and what to do about it; empty if it is measured.

    Args:
        weights: the path in the recipe, if any.
    """
    if bands != 3:
        unread = f", so what {WEIGHTS} names was not loaded" if weights else ""
        return f"FID was left out: it needs three bands, red, green and blue, and these tiles have {bands}{unread}."
    if weights is None:
        return (
            f"FID was not measured: it takes one network's weights, which {WEIGHTS} would name. To have it: "
            f"gcl-custom weights RECIPE --download --set {WEIGHTS}=weights/{FID_FILE}, then gcl-custom cost-benefit "
            f"--redo with the same --set."
        )
    return ""

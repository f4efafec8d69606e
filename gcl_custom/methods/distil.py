"""No term of its own: with this method, only targets train the backbone (``pretraining/targets.py``)."""

from collections.abc import Sequence

from torch import Tensor, nn

from gcl_custom.methods.method import Method, Scalar
from gcl_custom.recipe.methods import DistilSettings


class Distil(Method):
    """Leaves the views uncompared."""

    def __init__(self, backbone: nn.Module, width: int, settings: DistilSettings) -> None:
        super().__init__()

    def forward(
        self, representations: Sequence[Tensor], views: Sequence[Tensor], share_done: float
    ) -> dict[str, Scalar]:
        return {}

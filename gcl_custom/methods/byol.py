"""BYOL (Grill et al., arXiv:2006.07733), eq. 2-3:

    loss = 2 - 2 cos( q(z), z' ) + 2 - 2 cos( q(z'), z ) over the two views, mean over tiles

where q(z) is the student's prediction from one view and z' the teacher's projection of the other, without gradient.
With small crops, which the teacher does not see, the loss is twice the mean over pairs of a large view x and another
view x' (arXiv:2006.09882, section 3.3) of  2 - 2 cos( q(z of x'), z' of x ).
The teacher is a copy of the student's backbone and projector that follows by a moving average (eq. 1).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.methods.heads import projector
from gcl_custom.methods.method import Method, Scalar, full
from gcl_custom.methods.multi_crop import LARGE
from gcl_custom.methods.teacher import Teacher, rising
from gcl_custom.recipe.methods import ByolSettings


class BYOL(Method):
    """Projector, predictor and teacher."""

    def __init__(self, backbone: nn.Module, width: int, settings: ByolSettings) -> None:
        super().__init__()
        self.settings = settings
        self.projector = projector([width, *settings.projector], bias=True)
        self.predictor = projector([settings.projector[-1], *settings.projector], bias=True)
        self.teacher = Teacher(nn.Sequential(backbone, self.projector))

    def forward(
        self, representations: Sequence[Tensor], views: Sequence[Tensor], share_done: float
    ) -> dict[str, Scalar]:
        predictions = [self.predictor(self.projector(representation)) for representation in representations]
        with torch.no_grad():
            wanted = [self.teacher.net(view) for view in views[:LARGE]]
        with torch.autocast(predictions[0].device.type, enabled=False):
            each = [
                distance(full(prediction), full(target))
                for large, target in enumerate(wanted)
                for place, prediction in enumerate(predictions)
                if place != large
            ]
            return {"prediction": 2 * torch.stack(each).mean()}

    def follow(self, backbone: nn.Module, share_done: float) -> None:
        student = nn.Sequential(backbone, self.projector)
        self.teacher.follow(student, rising(self.settings.momentum, share_done))


def distance(prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> Scalar:
    """Squared distance of the directions, mean over tiles: from 0 to 4."""
    return 2 - 2 * F.cosine_similarity(prediction, target, dim=1).mean()

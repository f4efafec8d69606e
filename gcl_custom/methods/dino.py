"""DINO (Caron et al., arXiv:2104.14294), eq. 1-4:

    loss = mean over pairs of a large view x and another view x' of  - Σ_k  P_t(x)_k log P_s(x')_k
    P_s = softmax(g_s / τ_s),   P_t = softmax((g_t - centre) / τ_t)

The teacher sees the two large views, the student those and the small crops. The centre follows the mean of the
teacher's outputs over the whole batch.

Unlike the authors' training: no gradient is clipped (theirs to a norm of 3 for each parameter), weight decay stays what
the recipe says (theirs rises from 0.04 to 0.4 along a cosine), and the last layer rests for a share of the run in place
of an epoch.

    b  tiles in the batch of this process     k  outputs
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.methods.cross_entropy import cross_entropy
from gcl_custom.methods.method import Method, Scalar, full
from gcl_custom.methods.teacher import Teacher, rising
from gcl_custom.recipe.methods import DinoSettings
from gcl_custom.training import processes


class DINO(Method):
    """Head, teacher and centre; the teacher's backbone is the one to keep, as in the paper."""

    centre: Float[Tensor, " k"]

    def __init__(self, backbone: nn.Module, width: int, settings: DinoSettings) -> None:
        super().__init__()
        self.settings = settings
        self.head = Head([width, *settings.projector], settings.outputs)
        self.teacher = Teacher(nn.Sequential(backbone, self.head))
        self.register_buffer("centre", torch.zeros(settings.outputs))

    def forward(
        self, representations: Sequence[Tensor], views: Sequence[Tensor], share_done: float
    ) -> dict[str, Scalar]:
        settings = self.settings
        self.head.frozen = share_done < settings.frozen
        student = torch.stack([self.head(representation) for representation in representations])
        with torch.no_grad():
            teacher = torch.stack([self.teacher.net(view) for view in views[:2]])
        with torch.autocast(student.device.type, enabled=False):
            student, teacher = full(student), full(teacher)
            wanted = ((teacher - self.centre) / settings.teacher_temperature).softmax(dim=2)
            loss = cross_entropy(wanted, (student / settings.student_temperature).log_softmax(dim=2))
            if self.training:
                mean = processes.sum_over(teacher.mean((0, 1))) / processes.count()
                self.centre.lerp_(mean, 1 - settings.centre_momentum)
        return {"cross_entropy": loss}

    def follow(self, backbone: nn.Module, share_done: float) -> None:
        self.teacher.follow(nn.Sequential(backbone, self.head), rising(self.settings.momentum, share_done))

    def kept(self, backbone: nn.Module) -> nn.Module:
        (teacher, _) = self.teacher.net.children()
        return teacher


class Head(nn.Module):
    """Linear and GELU layers, a normalised bottleneck, and a last layer whose rows have length 1 (appendix C)."""

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))
        self.last = nn.Parameter(torch.empty(outputs, widths[-1]))
        self.frozen = False
        for module in self.layers:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        # As torch's linear layers begin, and so the authors' last layer: the shorter a row, the faster it turns.
        nn.init.kaiming_uniform_(self.last, a=math.sqrt(5))

    def forward(self, representation: Float[Tensor, "b width"]) -> Float[Tensor, "b k"]:
        """Outputs between -1 and 1: cosines of the bottleneck and the last layer's rows."""
        last = self.last.detach() if self.frozen else self.last
        return F.linear(F.normalize(self.layers(representation), dim=1), F.normalize(last, dim=1))

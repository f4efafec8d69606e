import torch
from torch import Tensor, nn

from gcl_custom.methods.method import Method


def test_without_a_teacher_the_trained_backbone_is_kept_and_nothing_follows() -> None:
    class Nothing(Method):
        def forward(self, representations: object, views: object, share_done: float) -> dict[str, Tensor]:
            return {}

    backbone = nn.Linear(3, 2)
    before = backbone.weight.clone()
    Nothing().follow(backbone, 0.5)
    assert torch.equal(backbone.weight, before)
    assert Nothing().kept(backbone) is backbone

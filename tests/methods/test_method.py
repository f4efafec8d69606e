from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from gcl_custom.methods.method import Method, Projected
from gcl_custom.recipe.methods import SimCLRSettings


def test_without_a_teacher_the_trained_backbone_is_kept_and_nothing_follows() -> None:
    class Nothing(Method):
        def forward(self, representations: object, views: object, share_done: float) -> dict[str, Tensor]:
            return {}

    backbone = nn.Linear(3, 2)
    before = backbone.weight.clone()
    Nothing().follow(backbone, 0.5)
    assert torch.equal(backbone.weight, before)
    assert Nothing().kept(backbone) is backbone


class Seen(Projected):
    """Keeps the projections that it is given."""

    def terms(self, z: Sequence[Tensor]) -> dict[str, Tensor]:
        self.z = list(z)
        return {"sum": torch.stack([view.sum() for view in z]).sum()}


def test_terms_are_of_the_projections_of_all_views_in_their_order() -> None:
    torch.manual_seed(0)
    method = Seen(nn.Identity(), 8, SimCLRSettings(name="simclr", projector=[16, 4]))
    views = [torch.randn(6, 8) for _ in range(3)]
    method.eval()  # batch statistics would change between two calls
    loss = method(views, views, 0.0)["sum"]
    for seen, view in zip(method.z, views, strict=True):
        assert torch.equal(seen, method.projector(view))
    assert torch.equal(loss, torch.stack([seen.sum() for seen in method.z]).sum())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_terms_are_computed_in_full_precision(dtype: torch.dtype) -> None:
    method = Seen(nn.Identity(), 8, SimCLRSettings(name="simclr", projector=[4]))
    inputs = [torch.randn(6, 8, dtype=dtype)] * 2
    if dtype is torch.float64:
        method.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        method(inputs, inputs, 0.0)
    assert method.z[0].dtype == (torch.float32 if dtype is torch.bfloat16 else torch.float64)
    product = method.z[0] @ method.z[1].T
    assert product.dtype == method.z[0].dtype

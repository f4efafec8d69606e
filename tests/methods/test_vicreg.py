"""VICReg: the terms against the authors' formula and lightly's loss."""

import pytest
import torch
from jaxtyping import Float
from lightly.loss import VICRegLoss
from torch import Tensor, nn

from gcl_custom.methods import vicreg
from gcl_custom.recipe.methods import VICRegSettings

SHAPES = [(8, 32), (40, 12), (16, 16)]


def off_diagonal_slowly(z: Float[Tensor, "n d"]) -> Tensor:
    """Equations 3 and 4 as they stand."""
    n, d = z.shape
    mean = z.mean(dim=0)
    matrix = sum(torch.outer(row - mean, row - mean) for row in z) / (n - 1)
    return sum(matrix[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / d


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_covariance_is_the_slow_formula_on_either_side_of_n_equal_d(n: int, d: int) -> None:
    z = torch.randn(n, d, dtype=torch.float64)
    torch.testing.assert_close(vicreg.covariance(z), off_diagonal_slowly(z))


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_terms_add_up_to_lightlys_loss_with_its_gradient(n: int, d: int) -> None:
    method = vicreg.VICReg(nn.Identity(), d, VICRegSettings(projector=[d]))
    method.projector = nn.Sequential(nn.Identity())
    first, second = (torch.randn(n, d).mul(0.7).requires_grad_() for _ in range(2))
    ours = torch.stack(list(method([first, second], [], 0.0).values())).sum()
    theirs = VICRegLoss()(first, second)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours, [first, second]), torch.autograd.grad(theirs, [first, second]), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(256, 2048), (256, 64)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_moderate_projections_keep_every_bit(n: int, d: int, size: float) -> None:
    z = torch.randn(n, d) * size
    centred = z - z.mean(dim=0)
    product = centred @ centred.T if n < d else centred.T @ centred
    diagonal = centred.square().sum(dim=0)
    assert torch.equal(vicreg.covariance(z), (product.square().sum() - diagonal.square().sum()) / ((n - 1) ** 2 * d))


@pytest.mark.parametrize(("n", "d"), [(256, 2048), (2048, 256)])
def test_large_projections_have_a_finite_loss_and_gradient(n: int, d: int) -> None:
    """A power of two times the projections is its fourth power times the covariance, to the last bit."""
    z = torch.randn(n, d)
    large = (z * 2.0**27).requires_grad_()
    found = vicreg.covariance(large)
    assert found == vicreg.covariance(z) * 2.0**108
    (gradient,) = torch.autograd.grad(found, large)
    assert gradient.isfinite().all()
    assert gradient.any()
    method = vicreg.VICReg(nn.Identity(), d, VICRegSettings(projector=[d]))
    method.projector = nn.Sequential(nn.Identity())
    assert all(term.isfinite() for term in method([large, -large], [], 0.0).values())


def test_variance_is_the_hinge_at_one() -> None:
    z = torch.tensor([[1.0, 5.0], [-1.0, -5.0]])  # standard deviations √2 and √50: both beyond 1
    assert vicreg.variance(z) == 0
    torch.testing.assert_close(vicreg.variance(torch.zeros(4, 3)), torch.tensor(1 - 1e-4**0.5))


def test_equal_views_have_no_invariance_term() -> None:
    z = torch.randn(6, 4)
    assert vicreg.invariance(z, z) == 0


def test_terms_are_in_full_precision_under_autocast() -> None:
    method = vicreg.VICReg(nn.Identity(), 16, VICRegSettings(projector=[32, 32]))
    with torch.autocast("cpu", torch.bfloat16):
        terms = method([torch.randn(8, 16), torch.randn(8, 16)], [], 0.0)
    assert set(terms) == {"invariance", "variance", "covariance"}
    assert all(term.dtype == torch.float32 for term in terms.values())

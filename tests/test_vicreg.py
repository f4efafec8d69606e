"""VICReg: the terms against the authors' formula and lightly's loss, on one process and on two."""

from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from lightly.loss import VICRegLoss
from torch import Tensor, distributed, multiprocessing, nn

from gcl_custom import recipe
from gcl_custom.methods import vicreg

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
    method = vicreg.VICReg(d, recipe.VICReg(projector=[d]))
    method.projector = nn.Sequential(nn.Identity())
    first, second = (torch.randn(n, d).mul(0.7).requires_grad_() for _ in range(2))
    ours = torch.stack(list(method(first, second).values())).sum()
    theirs = VICRegLoss()(first, second)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours, [first, second]), torch.autograd.grad(theirs, [first, second]), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_variance_is_the_hinge_at_one() -> None:
    z = torch.tensor([[1.0, 5.0], [-1.0, -5.0]])  # standard deviations √2 and √50: both beyond 1
    assert vicreg.variance(z) == 0
    torch.testing.assert_close(vicreg.variance(torch.zeros(4, 3)), torch.tensor(1 - 1e-4**0.5))


def test_equal_views_have_no_invariance_term() -> None:
    z = torch.randn(6, 4)
    assert vicreg.invariance(z, z) == 0


def test_projector_has_the_widths_of_the_recipe() -> None:
    layers = list(vicreg.projector([8, 16, 32, 24]))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2 + [nn.Linear]
    assert vicreg.projector([8, 16, 32, 24])(torch.randn(5, 8)).shape == (5, 24)


def test_terms_are_in_full_precision_under_autocast() -> None:
    method = vicreg.VICReg(16, recipe.VICReg(projector=[32, 32]))
    with torch.autocast("cpu", torch.bfloat16):
        terms = method(torch.randn(8, 16), torch.randn(8, 16))
    assert set(terms) == {"invariance", "variance", "covariance"}
    assert all(term.dtype == torch.float32 for term in terms.values())


def gradients(weight: Float[Tensor, "d d"], tiles: Float[Tensor, "2 n d"]) -> tuple[Tensor, Tensor]:
    """Loss, and its gradient in the weights of one linear layer before it."""
    method = vicreg.VICReg(weight.shape[0], recipe.VICReg(projector=[weight.shape[0]]))
    method.projector = nn.Sequential(nn.Identity())
    weight = weight.clone().requires_grad_()
    loss = torch.stack(list(method(tiles[0] @ weight, tiles[1] @ weight).values())).sum()
    return loss.detach(), torch.autograd.grad(loss, weight)[0]


def in_a_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    saved = torch.load(f"{folder}/inputs.pt", weights_only=True)
    loss, gradient = gradients(saved["weight"], saved["tiles"].chunk(2, dim=1)[rank])
    distributed.all_reduce(gradient)  # as DDP: the mean over processes
    torch.save({"loss": loss, "gradient": gradient / 2}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_with_half_the_batch_equal_one_with_all_of_it(tmp_path: Path) -> None:
    weight, tiles = torch.randn(12, 12) / 4, torch.randn(2, 8, 12)
    loss, gradient = gradients(weight, tiles)
    torch.save({"weight": weight, "tiles": tiles}, tmp_path / "inputs.pt")
    multiprocessing.spawn(in_a_process, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["loss"], loss)
        torch.testing.assert_close(found["gradient"], gradient, rtol=1e-4, atol=1e-6)

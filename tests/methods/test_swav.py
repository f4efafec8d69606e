"""SwAV against lightly's loss and Sinkhorn; prototypes and queue."""

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn as lightlys
from torch import nn

from gcl_custom.methods.swav import SwAV, sinkhorn
from gcl_custom.recipe.methods import SwavSettings


def made(**changes: object) -> SwAV:
    torch.manual_seed(0)
    settings = SwavSettings(name="swav", projector=[6], prototypes=7, frozen=0.1, **changes)  # type: ignore[arg-type]
    method = SwAV(nn.Identity(), 6, settings)
    method.projector = nn.Sequential(nn.Identity())
    return method


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn_is_lightlys(iterations: int) -> None:
    scores = torch.rand(12, 7)
    torch.testing.assert_close(sinkhorn(scores, 0.05, iterations), lightlys(scores, iterations, 0.05))


def test_sinkhorn_assigns_tiles_evenly_also_where_exponentials_overflow() -> None:
    assigned = sinkhorn(100 * torch.rand(40, 5), 0.5, 300)
    torch.testing.assert_close(assigned.sum(1), torch.ones(40))
    torch.testing.assert_close(assigned.sum(0), torch.full((5,), 8.0), rtol=0.02, atol=0)


def test_the_loss_is_lightlys_with_its_gradient_for_two_large_and_three_small_crops() -> None:
    method = made()
    views = [torch.randn(9, 6).requires_grad_() for _ in range(5)]
    (ours,) = method(views, views, 0.5).values()
    scores = [F.normalize(view, dim=1) @ method.prototypes.T for view in views]
    (theirs,) = SwaVLoss()(scores[:2], scores[2:])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    gradients = (torch.autograd.grad(loss, [*views, method.prototypes]) for loss in (ours, theirs))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_prototypes_rest_at_first_and_are_brought_back_to_length_one() -> None:
    method = made()
    views = [torch.randn(9, 6).requires_grad_() for _ in range(2)]
    for share_done, learns in ((0.05, False), (0.1, True)):
        (loss,) = method(views, views, share_done).values()
        loss.backward()
        assert (method.prototypes.grad is not None) == learns
    with torch.no_grad():
        method.prototypes.mul_(3)
    method.follow(nn.Identity(), 0.5)
    torch.testing.assert_close(method.prototypes.norm(dim=1), torch.ones(7))


def test_the_queue_joins_once_it_is_full_and_its_share_of_the_run_has_come() -> None:
    method = made(queue=8, queue_from=0.5)
    batches = [[torch.randn(4, 6) for _ in range(2)] for _ in range(4)]
    plain = made()
    losses = [
        (
            next(iter(method(views, views, share).values())).item(),
            next(iter(plain(views, views, share).values())).item(),
        )
        for views, share in zip(batches, (0.2, 0.6, 0.6, 0.3), strict=True)
    ]
    assert [with_queue == pytest.approx(without) for with_queue, without in losses] == [True, True, False, True]
    newest = F.normalize(batches[3][1], dim=1)
    torch.testing.assert_close(method.queue[1, :4], newest)
    torch.testing.assert_close(method.queue[1, 4:], F.normalize(batches[2][1], dim=1))

    views = batches[2]
    before = [F.normalize(torch.cat([batches[1][i], batches[0][i]]), dim=1) for i in range(2)]
    scores = [F.normalize(view, dim=1) @ method.prototypes.T for view in views]
    (theirs,) = SwaVLoss()(scores, [], [queue @ method.prototypes.T for queue in before])
    assert losses[2][0] == pytest.approx(theirs.item(), rel=1e-5)


def test_queue_and_prototypes_are_in_the_state() -> None:
    assert {"queue", "queued", "prototypes"} <= made(queue=8).state_dict().keys()

"""BYOL against lightly's loss; who learns and who follows."""

import torch
from lightly.loss import NegativeCosineSimilarity
from torch import nn

from gcl_custom.methods.byol import BYOL, distance
from gcl_custom.recipe.methods import ByolSettings

SETTINGS = ByolSettings(name="byol", momentum=0.9, projector=[10, 6])


def storages(module: nn.Module) -> set[int]:
    return {weight.untyped_storage().data_ptr() for weight in [*module.parameters(), *module.buffers()]}


def test_the_distance_is_lightlys_negative_cosine_similarity() -> None:
    prediction, target = torch.randn(7, 5), torch.randn(7, 5)
    torch.testing.assert_close(distance(prediction, target), 2 + 2 * NegativeCosineSimilarity()(prediction, target))
    assert distance(prediction, 3 * prediction).abs() < 1e-6
    torch.testing.assert_close(distance(prediction, -prediction), torch.tensor(4.0))


def test_the_loss_is_that_of_the_two_predictions() -> None:
    torch.manual_seed(0)
    backbone = nn.Linear(8, 12)
    method, views = BYOL(backbone, 12, SETTINGS).eval(), [torch.randn(6, 8) for _ in range(2)]
    (loss,) = method([backbone(view) for view in views], views, 0.0).values()
    predicted = [method.predictor(method.projector(backbone(view))) for view in views]
    wanted = [method.teacher.net(view) for view in views]
    criterion = NegativeCosineSimilarity()
    expected = 4 + 2 * criterion(predicted[0], wanted[1]) + 2 * criterion(predicted[1], wanted[0])
    torch.testing.assert_close(loss, expected)


def test_the_teacher_shares_nothing_with_the_student_and_moves_only_by_following() -> None:
    backbone = nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12))
    method, views = BYOL(backbone, 12, SETTINGS), [torch.randn(6, 8) for _ in range(2)]
    student = nn.ModuleList([backbone, method.projector, method.predictor])
    assert not storages(student) & storages(method.teacher)
    before = [weight.clone() for weight in method.teacher.parameters()]
    optimizer = torch.optim.SGD([*student.parameters()], lr=0.1)
    (loss,) = method([backbone(view) for view in views], views, 0.0).values()
    loss.backward()
    optimizer.step()
    assert all(map(torch.equal, before, method.teacher.parameters()))
    assert all(weight.grad is None for weight in method.teacher.parameters())
    method.follow(backbone, share_done=0.0)
    own = nn.Sequential(backbone, method.projector)
    for now, was, theirs in zip(method.teacher.parameters(), before, own.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * was + 0.1 * theirs)

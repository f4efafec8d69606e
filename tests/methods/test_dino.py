"""DINO against lightly's loss; teacher, centre and the frozen last layer."""

import torch
from lightly.loss import DINOLoss
from torch import nn

from gcl_custom.methods.dino import DINO, Head
from gcl_custom.recipe.methods import DinoSettings

SETTINGS = DinoSettings(name="dino", momentum=0.9, projector=[10, 6], outputs=16, frozen=0.1)


def made() -> tuple[nn.Module, DINO, list[torch.Tensor]]:
    torch.manual_seed(0)
    backbone = nn.Linear(8, 12)
    method = DINO(backbone, 12, SETTINGS)
    with torch.no_grad():  # so that student and teacher differ
        for weight in [*backbone.parameters(), *method.head.parameters()]:
            weight.add_(0.3 * torch.randn_like(weight))
    return backbone, method, [torch.randn(6, 8) for _ in range(5)]


def test_the_loss_and_the_centre_are_lightlys_over_several_steps() -> None:
    backbone, method, views = made()
    theirs = DINOLoss(output_dim=16, warmup_teacher_temp_epochs=0)
    for _ in range(3):
        (loss,) = method([backbone(view) for view in views], views, 0.5).values()
        student = [method.head(backbone(view)) for view in views]
        teacher = [method.teacher.net(view) for view in views[:2]]
        torch.testing.assert_close(loss, theirs(teacher, student), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(method.centre, theirs.center.flatten(), rtol=1e-5, atol=1e-7)


def test_the_centre_rests_outside_of_training_and_is_in_the_state() -> None:
    backbone, method, views = made()
    method.eval()
    method([backbone(view) for view in views], views, 0.5)
    assert not method.centre.any()
    assert "centre" in method.state_dict()


def test_the_kept_backbone_is_the_teachers_and_shares_nothing_with_the_student() -> None:
    backbone, method, _ = made()
    kept = method.kept(backbone)
    own = {weight.data_ptr() for weight in [*backbone.parameters(), *method.head.parameters()]}
    assert not own & {weight.data_ptr() for weight in method.teacher.parameters()}
    before = kept.weight.clone()
    method.follow(backbone, share_done=0.0)
    torch.testing.assert_close(kept.weight, 0.9 * before + 0.1 * backbone.weight)


def test_the_last_layer_rests_at_first() -> None:
    backbone, method, views = made()
    for share_done, learns in ((0.05, False), (0.1, True)):
        method.zero_grad()
        (loss,) = method([backbone(view) for view in views], views, share_done).values()
        loss.backward()
        assert (method.head.last.grad is not None) == learns
        assert method.head.layers[0].weight.grad.any()


def test_the_last_layer_begins_as_the_authors_does() -> None:
    """Its rows have the length of a linear layer's, 1/√3, and not of the 0.02 √d that the other layers begin with."""
    torch.manual_seed(0)
    head = Head([12, 10, 256], 4096)
    theirs = torch.nn.Linear(256, 4096, bias=False).weight
    torch.testing.assert_close(head.last.norm(dim=1).mean(), theirs.norm(dim=1).mean(), rtol=1e-2, atol=0)
    torch.testing.assert_close(head.last.norm(dim=1).mean(), torch.tensor(3**-0.5), rtol=1e-2, atol=0)


def test_outputs_are_cosines() -> None:
    outputs = Head([12, 10, 6], 16)(100 * torch.randn(50, 12))
    assert outputs.shape == (50, 16)
    assert outputs.abs().max() <= 1 + 1e-6

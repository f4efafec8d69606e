import pytest
import torch
from torch import nn

from gcl_custom.methods.teacher import Teacher, rising


def test_a_teacher_follows_only_by_its_moving_average() -> None:
    student = nn.Linear(4, 2)
    teacher = Teacher(student)
    before = teacher.net.weight.clone()
    with torch.no_grad():
        student.weight.add_(1.0)
    assert torch.equal(teacher.net.weight, before)
    teacher.follow(student, momentum=0.9)
    torch.testing.assert_close(teacher.net.weight, before + 0.1)


def test_a_teacher_learns_nothing_by_itself() -> None:
    assert not any(weight.requires_grad for weight in Teacher(nn.Linear(4, 2)).parameters())


def test_its_momentum_rises_to_one() -> None:
    assert rising(0.9, 0.0) == pytest.approx(0.9)
    assert rising(0.9, 0.5) == pytest.approx(0.95)
    assert rising(0.9, 1.0) == 1.0

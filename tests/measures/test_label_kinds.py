import pytest
import torch
from torch.nn import functional

from gcl_custom.measures.label_kinds import MultiLabel, SingleLabel, task_of

LOGITS = torch.tensor([[2.0, -1.0], [0.5, 1.5], [-1.0, 0.25]])


def test_one_class_a_tile_is_cross_entropy_and_top_1() -> None:
    task, labels = task_of(multi_label=False), torch.tensor([0, 1, 0])
    assert isinstance(task, SingleLabel)
    torch.testing.assert_close(task.loss(LOGITS, labels), functional.cross_entropy(LOGITS, labels))
    assert task.decide(LOGITS).tolist() == [0, 1, 1]
    assert task.score(task.decide(LOGITS), labels) == pytest.approx(2 / 3)


def test_several_labels_a_tile_are_one_binary_question_a_class() -> None:
    task, labels = task_of(multi_label=True), torch.tensor([[True, True], [False, True], [True, False]])
    assert isinstance(task, MultiLabel)
    p = LOGITS.sigmoid()
    expected = -torch.where(labels, p, 1 - p).log().sum(1).mean()
    torch.testing.assert_close(task.loss(LOGITS, labels), expected)
    # First class: right at ranks 1 and 3, so (1 + 2/3) / 2; second: at ranks 1 and 3 as well.
    assert task.score(task.decide(LOGITS), labels) == pytest.approx((1 + 2 / 3) / 2)


def test_what_is_scored_is_what_is_kept() -> None:
    task, labels = MultiLabel(), torch.tensor([[True], [False]])
    close = torch.tensor([[1.00001], [1.00002]])
    kept = torch.tensor(task.decide(close).tolist())
    assert task.score(task.decide(close), labels) == task.score(kept, labels) == 0.5

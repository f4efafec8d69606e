import pytest
import torch

from gcl_custom.measures.label_kind import LabelKind, require_fraction
from gcl_custom.measures.label_kinds import KINDS, SINGLE_LABEL


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01])
def test_a_fraction_is_a_share_of_the_labels(fraction: float) -> None:
    require_fraction(1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        require_fraction(fraction)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_draws_shots_only_if_it_says_so(kind: LabelKind) -> None:
    labels = torch.tensor([0, 1, 1])
    if kind.draws_shots:
        assert kind.shots(labels, 1, seed=0).tolist()[0] == 0
    else:
        with pytest.raises(NotImplementedError, match=kind.measure):
            kind.shots(labels, 1, seed=0)


def test_only_dense_kinds_differ_between_tiles_and_pixels() -> None:
    labels = torch.tensor([0, 1, -1])
    assert SINGLE_LABEL.of_whole_tiles(labels) == (SINGLE_LABEL, labels)
    assert SINGLE_LABEL.kept(labels, labels, 2) is labels
    assert [kind.measure for kind in KINDS if kind.dense] == ["mIoU"]

"""The representations of a run's tiles: those of its network, computed once."""

import numpy as np
import pytest
import torch

from gcl_custom.errors import UserError
from gcl_custom.export.backbone_of_run import load_backbone
from gcl_custom.maps import representations
from gcl_custom.maps.representations import KEPT, representations_of, stage_of
from gcl_custom.runs.run import Run


def test_they_are_those_of_the_exported_network_in_the_order_of_the_store(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(representations, "INFERENCE_BATCH", 40)
    known = load_backbone(run, "handcrafted", 4)
    with torch.inference_mode():
        expected = known.plain()(known.store.unit(known.store.read(torch.arange(len(known.store)))))
    np.testing.assert_allclose(representations_of(known), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_they_are_computed_once_and_a_damaged_file_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    known = load_backbone(run, "handcrafted", 3)
    before = np.array(representations_of(known))
    monkeypatch.setattr(type(known), "represent", lambda *_: pytest.fail("they are kept"))
    np.testing.assert_array_equal(representations_of(known), before)
    kept = stage_of(run, "handcrafted", 3).path / KEPT
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"representations\.npy is damaged"):
        representations_of(known)
    kept.write_bytes(whole)

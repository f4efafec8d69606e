import pytest
import torch

from gcl_custom.bf16_units import has_units


def test_one_of_several_units_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False, "avx512_bf16": True})
    assert has_units("amx_bf16", "avx512_bf16")
    assert not has_units("amx_bf16")
    assert not has_units("unheard_of")


def test_a_torch_that_does_not_say_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not has_units("amx_bf16", "avx512_bf16")

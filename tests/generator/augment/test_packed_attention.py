"""Packed positions and the cache of decoding, against full computation."""

import pytest
import torch
from small_maskgit import CODES, GRID, example, small

from gcl_custom.generator.augment import packed_attention
from gcl_custom.generator.augment.packed_attention import Cache, PackedPositions, attention


def test_written_out_attention_equals_the_fused_one() -> None:
    q, k, v = torch.randn(3, 2, 4, 6, 8)
    with torch.no_grad():
        fused = attention(q, k, v)
    torch.testing.assert_close(attention(q.requires_grad_(), k, v), fused)


@pytest.mark.parametrize("slow", [False, True])
def test_attention_in_bf16_is_that_in_fp32_up_to_rounding(slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways that a CPU may choose, with keys that lie as projections leave them."""
    monkeypatch.setattr(packed_attention, "_fused_is_slow", lambda dtype: slow and dtype is torch.bfloat16)
    torch.manual_seed(0)
    q, k, v = (some.transpose(1, 2) for some in torch.randn(3, 4, 6, 2, 8).bfloat16())
    with torch.no_grad():
        exact = attention(q.float(), k.float(), v.float())
        torch.testing.assert_close(attention(q, k, v).float(), exact, atol=0.03, rtol=0)
        assert (exact - v.float().mean(dim=2, keepdim=True)).abs().max() > 0.5, "queries make a difference"


def some(seed: int) -> torch.Tensor:
    """Positions of three tiles, of unequal number; none in the last tile."""
    torch.manual_seed(seed)
    return torch.rand(3, GRID * GRID) < torch.tensor([0.3, 0.6, 0.0])[:, None]


def test_packed_positions_come_back_in_order() -> None:
    where = some(2)
    rows, values = PackedPositions(where), torch.randn(3, GRID * GRID, 5)
    assert torch.equal(values.flatten(0, 1)[rows.flat], values[where])
    padded = rows.padded(values[where])
    assert padded.shape == (3, where.sum(dim=1).max(), 5)
    for tile in range(3):
        assert torch.equal(padded[tile, : where[tile].sum()], values[tile, where[tile]])
    assert torch.equal(rows.packed(padded), values[where])


def test_looked_up_neighbours_equal_the_convolution() -> None:
    model, (tokens, hidden) = small(), example()
    ids = tokens.masked_fill(hidden, CODES)
    expected, where = model._embed(ids), some(2)
    torch.testing.assert_close(model._looked_up(ids, Cache(), None), expected)
    torch.testing.assert_close(model._looked_up(ids, Cache(), PackedPositions(where)), expected[where])


def test_prediction_at_some_positions_equals_the_full_forward() -> None:
    model, (tokens, hidden) = small(), example()
    at = some(2)
    with torch.no_grad():
        logits = model.predict(tokens, hidden, at, Cache())
        full = model(tokens, hidden).flatten(1, 2)
    torch.testing.assert_close(logits, full[at])


def test_recomputing_all_that_depends_on_a_change_is_exact() -> None:
    """With all positions listed as changed a cached step must equal the full forward."""
    model, (tokens, hidden) = small(), example()
    cache, at = Cache(), some(3)
    with torch.no_grad():
        model.predict(tokens, hidden, some(2), cache)
        shown = hidden & (torch.rand(hidden.shape) < 0.5)
        logits = model.predict(tokens, shown, at, cache, torch.ones_like(at))
        full = model(tokens, shown).flatten(1, 2)
    torch.testing.assert_close(logits, full[at])


def test_without_a_change_the_cache_is_exact_at_few_positions() -> None:
    model, (tokens, hidden) = small(), example()
    cache, at = Cache(), some(2)
    with torch.no_grad():
        first = model.predict(tokens, hidden, at, cache)
        torch.testing.assert_close(model.predict(tokens, hidden, at, cache, at), first)
        torch.testing.assert_close(model.predict(tokens, hidden, at, cache, at | some(3)), first)

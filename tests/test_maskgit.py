"""MaskGIT: what hidden tokens may not influence, the loss by the slow formula, and cached against full computation."""

import math

import pytest
import torch
import torch.nn.functional as F

from gcl_custom.generator.maskgit import Cache, MaskGIT, Rows, attention
from gcl_custom.recipe_generator import MaskGIT as Settings

CODES, GRID = 11, 4


def small(dropout: float = 0.0, seed: int = 0) -> MaskGIT:
    torch.manual_seed(seed)
    model = MaskGIT(CODES, GRID, Settings(width=32, depth=3, heads=2, dropout=dropout))
    with torch.no_grad():  # away from the start of training, so that a wrong position shows
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def example(tiles: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randint(CODES, (tiles, GRID, GRID)), torch.rand(tiles, GRID, GRID) < 0.4


def test_logits_are_of_codes_only_and_hidden_tokens_have_no_influence() -> None:
    model, (tokens, hidden) = small(), example()
    logits = model(tokens, hidden)
    assert logits.shape == (3, GRID, GRID, CODES)
    other = torch.where(hidden, (tokens + 3) % CODES, tokens)
    assert torch.equal(model(other, hidden), logits)
    changed = tokens.clone()
    changed[0][~hidden[0]] = (changed[0][~hidden[0]] + 1) % CODES
    assert not torch.allclose(model(changed, hidden)[0], logits[0])
    torch.testing.assert_close(model(changed, hidden)[1:], logits[1:])


def test_embedding_is_a_residual_convolution_over_the_grid() -> None:
    model, (tokens, _) = small(), example()
    embedded = model.embedding(tokens).permute(0, 3, 1, 2)
    kernel = model.neighbours.weight.view(32, 3, 3, 32).permute(0, 3, 1, 2)
    expected = embedded + F.conv2d(embedded, kernel, model.neighbours.bias, padding=1)
    expected = model.norm(expected.flatten(2).transpose(1, 2) + model.position)
    torch.testing.assert_close(model._embed(tokens), expected)


def test_loss_at_hidden_positions_against_the_slow_formula() -> None:
    model, (tokens, hidden) = small(), example()
    logp = model(tokens, hidden).log_softmax(dim=-1)
    terms = []
    for tile, row, column in hidden.nonzero().tolist():
        target = torch.full((CODES,), 0.1 / CODES)
        target[tokens[tile, row, column]] += 0.9
        terms.append(-(target * logp[tile, row, column]).sum())
    torch.testing.assert_close(model.loss(tokens, hidden), torch.stack(terms).mean())
    plain = -logp.gather(3, tokens[..., None])[..., 0][hidden].mean()
    torch.testing.assert_close(model.loss(tokens, hidden, smoothing=0.0), plain)


def test_written_out_attention_equals_the_fused_one() -> None:
    q, k, v = torch.randn(3, 2, 4, 6, 8)
    with torch.no_grad():
        fused = attention(q, k, v)
    torch.testing.assert_close(attention(q.requires_grad_(), k, v), fused)


def test_at_the_start_the_loss_is_that_of_guessing() -> None:
    torch.manual_seed(0)
    tokens, hidden = example()
    loss = MaskGIT(CODES, GRID, Settings(width=32, depth=2, heads=2)).eval().loss(tokens, hidden, smoothing=0.0)
    assert loss.item() == pytest.approx(math.log(CODES), abs=0.1)


def some(seed: int) -> torch.Tensor:
    """Positions of three tiles, of unequal number; none in the last tile."""
    torch.manual_seed(seed)
    return torch.rand(3, GRID * GRID) < torch.tensor([0.3, 0.6, 0.0])[:, None]


def test_packed_positions_come_back_in_order() -> None:
    where = some(2)
    rows, values = Rows(where), torch.randn(3, GRID * GRID, 5)
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
    torch.testing.assert_close(model._looked_up(ids, Cache(), Rows(where)), expected[where])


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


def test_it_learns_what_follows_from_the_neighbours() -> None:
    """Each row repeats one token, so a hidden token is certain while another of its row is shown."""
    torch.manual_seed(0)
    model = MaskGIT(8, GRID, Settings(width=32, depth=2, heads=2, dropout=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    hidden = torch.zeros(32, GRID, GRID, dtype=torch.bool)
    hidden[:, :, 1] = True
    for _ in range(150):
        tokens = torch.randint(8, (32, GRID, 1)).expand(-1, -1, GRID)
        optimizer.zero_grad()
        model.loss(tokens, hidden).backward()
        optimizer.step()
    model.eval()
    tokens = torch.randint(8, (32, GRID, 1)).expand(-1, -1, GRID)
    assert model.loss(tokens, hidden, smoothing=0.0).item() < 0.3 < math.log(8)

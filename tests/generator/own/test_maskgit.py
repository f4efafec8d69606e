"""MaskGIT: what hidden tokens may not influence, the loss by the slow formula, and cached against full computation."""

import math

import pytest
import torch
import torch.nn.functional as F
from small_maskgit import CODES, GRID, example, small

from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.recipe.generator import MaskGITSettings as Settings


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


def test_at_the_start_the_loss_is_that_of_guessing() -> None:
    torch.manual_seed(0)
    tokens, hidden = example()
    loss = MaskGIT(CODES, GRID, Settings(width=32, depth=2, heads=2)).eval().loss(tokens, hidden, smoothing=0.0)
    assert loss.item() == pytest.approx(math.log(CODES), abs=0.1)


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

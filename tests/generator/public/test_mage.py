"""MAGE's transformer: the public format, and the network against a literal transcription."""

from pathlib import Path

import pytest
import torch
from families import Spoil, TransformerLaws, with_zeros, without
from mage_file import (
    CODES,
    DECODER_DEPTH,
    DECODER_HEADS,
    DEPTH,
    GRID,
    HEADS,
    VOCABULARY,
    public_state,
    save,
    transformer_state,
)
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.public.mage import MageTransformer
from gcl_custom.weights.state_dicts import save_weights


def load(path: Path) -> MageTransformer:
    return MageTransformer.from_file(path, "here", heads=HEADS, decoder_heads=DECODER_HEADS).eval()


@pytest.fixture
def loaded(tmp_path: Path) -> MageTransformer:
    return load(save(tmp_path / "w.pth", public_state()))


def example(tiles: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    hidden = torch.rand(tiles, GRID, GRID) < 0.4
    hidden[-1] = False
    return torch.randint(CODES, (tiles, GRID, GRID)), hidden


def transcribed(state: dict[str, Tensor], tokens: Tensor, hidden: Tensor) -> Tensor:
    """Logits of one tile, from numbers of tokens in the public vocabulary."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: Tensor, name: str, eps: float = 1e-6) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def gelu(x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / 2**0.5))

    def block(x: Tensor, name: str, heads: int) -> Tensor:
        width = x.shape[1]
        queries, keys, values = (
            linear(norm(x, f"{name}.norm1"), f"{name}.attn.qkv").view(-1, 3, heads, width // heads).unbind(1)
        )
        weights = (torch.einsum("ihe,jhe->hij", queries, keys) / (width // heads) ** 0.5).softmax(dim=2)
        attended = torch.einsum("hij,jhe->ihe", weights, values).reshape(-1, width)
        x = x + linear(attended, f"{name}.attn.proj")
        return x + linear(gelu(linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")), f"{name}.mlp.fc2")

    mask, fake_class = VOCABULARY - 1, CODES + 1100 - 1024
    flat = zip(tokens.flatten().tolist(), hidden.flatten().tolist(), strict=True)
    ids = [fake_class] + [mask if covered else token for token, covered in flat]
    words, places = (state[f"token_emb.{kind}_embeddings.weight"] for kind in ("word", "position"))
    x = norm(torch.stack([words[token] + places[i] for i, token in enumerate(ids)]), "token_emb.LayerNorm")
    for i in range(DEPTH):
        x = block(x, f"blocks.{i}", HEADS)
    x = linear(norm(x, "norm"), "decoder_embed")
    x = torch.stack([x[0] if token == mask else x[i] for i, token in enumerate(ids)])
    x = x + state["decoder_pos_embed_learned"][0]
    for i in range(DECODER_DEPTH):
        x = block(x, f"decoder_blocks.{i}", DECODER_HEADS)
    x = norm(gelu(linear(norm(x, "decoder_norm"), "mlm_layer.fc")), "mlm_layer.ln", 1e-5)
    return (x @ words.T + state["mlm_layer.bias"][0, 0])[1:, :CODES].view(GRID, GRID, CODES)


def test_the_public_names_make_the_network_of_the_equations(loaded: MageTransformer) -> None:
    assert (loaded.codes, loaded.grid) == (CODES, GRID)
    tokens, hidden = example()
    with torch.no_grad():
        logits = loaded(tokens, hidden)
    expected = torch.stack([transcribed(transformer_state(), *tile) for tile in zip(tokens, hidden, strict=True)])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


class TestLaws(TransformerLaws):
    pass


def test_what_is_saved_loads_again(loaded: MageTransformer, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", loaded)
    again = load(tmp_path / "w.safetensors").state_dict()
    assert again.keys() == transformer_state().keys()
    assert all(torch.equal(again[name], value) for name, value in transformer_state().items())


def test_heads_are_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"here: .*width 24; heads are known for 768, 1024.*\(heads\)"):
        MageTransformer.from_file(save(tmp_path / "w.pth", public_state()), "here")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("decoder_blocks.1.mlp.fc2.bias"), r"missing decoder_blocks\.1\.mlp\.fc2\.bias"),
        (without("decoder_embed.weight"), r"missing decoder_embed\.weight"),
        (with_zeros("blocks.0.gate", 1), r"surplus blocks\.0\.gate"),
        (with_zeros("head.weight", 1), r"surplus head\.weight"),
        (with_zeros("vqgan.loss.weight", 1), r"surplus vqgan\.loss\.weight"),
        (with_zeros("norm.bias", 7), r"norm\.bias is \(7,\), not \(24,\)"),
    ],
)
def test_what_does_not_fit_is_named(spoil: Spoil, message: str, tmp_path: Path) -> None:
    state = public_state()
    spoil(state)
    with pytest.raises(UserError, match=message):
        load(save(tmp_path / "w.pth", state))


def test_a_pickle_with_a_foreign_class_is_refused(tmp_path: Path) -> None:
    torch.save({"model": public_state(), "args": nn.Identity()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"it names torch\.nn\.modules\.linear\.Identity"):
        load(tmp_path / "w.pth")

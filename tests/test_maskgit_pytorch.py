"""Maskgit-pytorch's transformer: the public format, and the network against a literal transcription."""

from pathlib import Path

import pytest
import torch
from families import PublicState, Spoil, TransformerLaws, with_zeros, without
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.maskgit_pytorch import MaskgitPytorch
from gcl_custom.weights import save_weights

CODES, GRID, WIDTH, DEPTH, HEADS, HIDDEN = 11, 4, 24, 2, 3, 40
VOCABULARY = CODES + 1 + 1000 + 1


def public_state(grid: int = GRID) -> dict[str, Tensor]:
    """Random weights under the names of the public file."""
    torch.manual_seed(0)
    state = PublicState(
        {
            "tok_emb.weight": torch.randn(VOCABULARY, WIDTH),
            "pos_emb": torch.randn(1, grid**2 + 1, WIDTH),
            "bias": torch.randn(grid**2 + 1, VOCABULARY),
        }
    )

    for name in ("first_layer.0", "first_layer.4", "last_layer.0", "last_layer.4"):
        state.norm(name, WIDTH)
    for name in ("first_layer.2", "first_layer.6", "last_layer.2"):
        state.linear(name, WIDTH, WIDTH)
    for layer in range(DEPTH):
        name = f"transformer.layers.{layer}"
        state.norm(f"{name}.0.norm", WIDTH)
        state.linear(f"{name}.0.fn.mha.in_proj", WIDTH, 3 * WIDTH, dot="_")
        state.linear(f"{name}.0.fn.mha.out_proj", WIDTH, WIDTH)
        state.norm(f"{name}.1.norm", WIDTH)
        state.linear(f"{name}.1.fn.net.0", WIDTH, HIDDEN)
        state.linear(f"{name}.1.fn.net.3", HIDDEN, WIDTH)
    return dict(state)  # plain, as it is saved


def save(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"iter": 7, "global_epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"state": {}}}, path)
    return path


@pytest.fixture
def loaded(tmp_path: Path) -> MaskgitPytorch:
    return MaskgitPytorch.from_file(save(tmp_path / "w.pth", public_state()), "here", heads=HEADS).eval()


def example(tiles: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    hidden = torch.rand(tiles, GRID, GRID) < 0.4
    hidden[-1] = False
    return torch.randint(CODES, (tiles, GRID, GRID)), hidden


def transcribed(state: dict[str, Tensor], tokens: Tensor, hidden: Tensor) -> Tensor:
    """Logits of one tile, position by position, from numbers of tokens in the public vocabulary."""

    def linear(x: Tensor, name: str, dot: str = ".") -> Tensor:
        return x @ state[f"{name}{dot}weight"].T + state[f"{name}{dot}bias"]

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def gelu(x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / 2**0.5))

    mask, no_class = CODES, CODES + 1 + 1000
    flat = zip(tokens.flatten().tolist(), hidden.flatten().tolist(), strict=True)
    ids = [mask if covered else token for token, covered in flat] + [no_class]
    x = torch.stack([state["tok_emb.weight"][token] + state["pos_emb"][0, i] for i, token in enumerate(ids)])
    x = gelu(linear(norm(x, "first_layer.0", 1e-12), "first_layer.2"))
    x = linear(norm(x, "first_layer.4", 1e-12), "first_layer.6")
    for layer in range(DEPTH):
        name = f"transformer.layers.{layer}"
        mixed = linear(norm(x, f"{name}.0.norm", 1e-5), f"{name}.0.fn.mha.in_proj", dot="_")
        queries, keys, values = mixed.view(-1, 3, HEADS, WIDTH // HEADS).unbind(dim=1)
        weights = (torch.einsum("ihe,jhe->hij", queries, keys) / (WIDTH // HEADS) ** 0.5).softmax(dim=2)
        attended = torch.einsum("hij,jhe->ihe", weights, values).reshape(-1, WIDTH)
        x = x + linear(attended, f"{name}.0.fn.mha.out_proj")
        inside = gelu(linear(norm(x, f"{name}.1.norm", 1e-5), f"{name}.1.fn.net.0"))
        x = x + linear(inside, f"{name}.1.fn.net.3")
    x = norm(gelu(linear(norm(x, "last_layer.0", 1e-12), "last_layer.2")), "last_layer.4", 1e-12)
    return (x @ state["tok_emb.weight"].T + state["bias"])[: GRID**2, :CODES].view(GRID, GRID, CODES)


def test_the_public_names_make_the_network_of_the_equations(loaded: MaskgitPytorch) -> None:
    assert (loaded.codes, loaded.grid) == (CODES, GRID)
    tokens, hidden = example()
    with torch.no_grad():
        logits = loaded(tokens, hidden)
    expected = torch.stack([transcribed(public_state(), *tile) for tile in zip(tokens, hidden, strict=True)])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


class TestLaws(TransformerLaws):
    pass


def test_what_is_saved_loads_again(loaded: MaskgitPytorch, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", loaded)
    again = MaskgitPytorch.from_file(tmp_path / "w.safetensors", "here", heads=HEADS).state_dict()
    assert again.keys() == public_state().keys()
    assert all(torch.equal(again[name], value) for name, value in public_state().items())


def test_heads_are_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"here: .*width 24; heads are known for 768, 1024.*\(heads\)"):
        MaskgitPytorch.from_file(save(tmp_path / "w.pth", public_state()), "here")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("transformer.layers.1.1.fn.net.3.bias"), r"missing transformer\.layers\.1\.1\.fn\.net\.3\.bias"),
        (without("tok_emb.weight"), r"missing tok_emb\.weight"),
        (with_zeros("reg_tokens.weight", 1), r"surplus reg_tokens\.weight"),
        (with_zeros("bias", 17), r"bias is \(17,\), not \(17, 1013\)"),
        (with_zeros("tok_emb.weight", 900, 24), r"no place for 1000 classes"),
        (with_zeros("pos_emb", 1, 16, 24), r"15 positions are no square"),
    ],
)
def test_what_does_not_fit_is_named(spoil: Spoil, message: str, tmp_path: Path) -> None:
    state = public_state()
    spoil(state)
    with pytest.raises(UserError, match=message):
        MaskgitPytorch.from_file(save(tmp_path / "w.pth", state), "here", heads=HEADS)


def test_a_pickle_with_a_foreign_class_is_refused(tmp_path: Path) -> None:
    torch.save({"model_state_dict": public_state(), "args": nn.Identity()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"it names torch\.nn\.modules\.linear\.Identity"):
        MaskgitPytorch.from_file(tmp_path / "w.pth", "here", heads=HEADS)

"""Halton-MaskGIT: its public file's form, a slow transcription of its equations, and in-painting with it."""

import copy
import math
from pathlib import Path

import pytest
import torch
from families import Spoil, TransformerLaws, with_zeros, without
from halton_maskgit_file import CLASSES, CODES, DEPTH, GRID, HEADS, INNER, WIDTH, public_state, write
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.generator.augment import masks
from gcl_custom.generator.augment.inpainting import inpaint
from gcl_custom.generator.public.halton_maskgit import HaltonMaskGIT
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.views import ViewsSettings
from gcl_custom.weights.state_dicts import save_weights


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> HaltonMaskGIT:
    path = write(tmp_path_factory.mktemp("public") / "ImageNet_256_tiny.pth", public_state())
    return HaltonMaskGIT.from_file(path, "here", heads=HEADS).eval()


def example(tiles: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randint(CODES, (tiles, GRID, GRID)), torch.rand(tiles, GRID, GRID) < 0.5


def by_the_equations(state: dict[str, Tensor], tokens: Tensor, hidden: Tensor) -> Tensor:
    """Logits of the codes for one tile, one position and one head at a time, in fp64."""
    w = {name: value.double() for name, value in state.items()}
    sequence = [
        w["tok_emb.weight"][CODES if hidden[y, x] else int(tokens[y, x])] + w["pos_emb.weight"][y * GRID + x]
        for y in range(GRID)
        for x in range(GRID)
    ]
    sequence.append(w["reg_tokens.weight"][0])
    swished = w["cls_emb.weight"][CLASSES] / (1 + torch.exp(-w["cls_emb.weight"][CLASSES]))

    def rms(v: Tensor) -> Tensor:
        return v / torch.sqrt((v * v).sum() / v.numel() + 1e-5)

    for layer in range(DEPTH):
        at, each = f"transformer.layers.{layer}", INNER // HEADS
        modulation = w[f"{at}.mlp.1.weight"] @ swished + w[f"{at}.mlp.1.bias"]
        t1, s1, g1, t2, s2, g2 = (modulation[i * WIDTH : (i + 1) * WIDTH] for i in range(6))
        entered = [rms(v) * w[f"{at}.ln1.weight"] * (1 + s1) + t1 for v in sequence]
        q, k = ([rms(w[f"{at}.attn.{name}.weight"] @ v) for v in entered] for name in ("wq", "wk"))
        values = [w[f"{at}.attn.wv.weight"] @ v for v in entered]
        for i in range(len(sequence)):
            attended = []
            for head in range(HEADS):
                part = slice(head * each, (head + 1) * each)
                exponentials = [math.exp(float(q[i][part] @ key[part]) / math.sqrt(each)) for key in k]
                weighted = [e * value[part] for e, value in zip(exponentials, values, strict=True)]
                attended.append(sum(weighted[1:], weighted[0]) / sum(exponentials))
            sequence[i] = sequence[i] + g1 * (w[f"{at}.attn.wo.weight"] @ torch.cat(attended))
        for i, v in enumerate(sequence):
            entering = rms(v) * w[f"{at}.ln2.weight"] * (1 + s2) + t2
            gate = w[f"{at}.ff.w1.weight"] @ entering
            gated = gate / (1 + torch.exp(-gate)) * (w[f"{at}.ff.w3.weight"] @ entering)
            sequence[i] = v + g2 * (w[f"{at}.ff.w2.weight"] @ gated)

    shift, scale = (w["last_norm.mlp.1.weight"] @ swished + w["last_norm.mlp.1.bias"]).split(WIDTH)
    rows = []
    for v in sequence[:-1]:
        last = rms(v) * w["last_norm.norm_final.weight"] + w["last_norm.norm_final.bias"]
        rows.append((w["tok_emb.weight"] @ (last * (1 + scale) + shift) + w["head.bias"])[:CODES])
    return torch.stack(rows).view(GRID, GRID, CODES)


def test_logits_by_the_equations(loaded: HaltonMaskGIT) -> None:
    tokens, hidden = example(2)
    with torch.no_grad():
        logits = loaded(tokens, hidden)
    for tile in range(2):
        expected = by_the_equations(public_state(), tokens[tile], hidden[tile])
        assert expected.std() > 0.5
        torch.testing.assert_close(logits[tile].double(), expected, rtol=0, atol=2e-5)


class TestLaws(TransformerLaws):
    pass


@pytest.mark.parametrize("settings", [ViewsSettings(), ViewsSettings(order="halton"), ViewsSettings(decoding_steps=1)])
def test_inpainting_the_centre_leaves_the_outer_ring(loaded: HaltonMaskGIT, settings: ViewsSettings) -> None:
    tokens, hidden = example(6)[0], masks.centre(GRID, GRID, 6)
    whole = inpaint(loaded, tokens, hidden, Randomness(3, "views", 0, torch.arange(6)), settings)
    assert torch.equal(whole[~hidden], tokens[~hidden])
    assert not torch.equal(whole, tokens)
    assert whole.max() < CODES
    alone = inpaint(loaded, tokens[4:5], hidden[4:5], Randomness(3, "views", 0, torch.tensor([4])), settings)
    assert torch.equal(alone, whole[4:5]), "whatever the batch"


def test_what_is_saved_loads_again_and_stays_tied(loaded: HaltonMaskGIT, tmp_path: Path) -> None:
    path, state = tmp_path / "w.safetensors", public_state()
    assert {name: value.shape for name, value in loaded.state_dict().items()} == {
        name: value.shape for name, value in state.items()
    }
    save_weights(path, loaded)
    again = HaltonMaskGIT.from_file(path, "here", heads=HEADS)
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    for other in (again, copy.deepcopy(again).to(torch.bfloat16)):
        assert other.head.weight is other.tok_emb.weight


@pytest.mark.parametrize("width", [384, 512, 768])
def test_heads_of_the_public_networks_are_known(tmp_path: Path, width: int) -> None:
    heads = {384: 6, 512: 6, 768: 12}[width]
    inner = width // heads * heads
    tiny = HaltonMaskGIT(3, 2, width, heads, depth=1, inner=inner, hidden=8, classes=1, registers=1)
    save_weights(tmp_path / "w.safetensors", tiny)
    again = HaltonMaskGIT.from_file(tmp_path / "w.safetensors", "here").eval()
    tokens, hidden = torch.zeros(1, 2, 2, dtype=torch.long), torch.ones(1, 2, 2, dtype=torch.bool)
    assert torch.equal(again(tokens, hidden), tiny(tokens, hidden))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("transformer.layers.1.ff.w3.weight"), r"missing transformer\.layers\.1\.ff\.w3\.weight$"),
        (without("transformer.layers.0.attn.wq.weight"), r"missing transformer\.layers\.0\.attn\.wq\.weight"),
        (without("head.weight"), r"missing head\.weight$"),
        (with_zeros("in_proj.weight", 2), r"surplus in_proj\.weight$"),
        (with_zeros("head.bias", CODES), r"head\.bias is \(11,\), not \(12,\)$"),
        (with_zeros("tok_emb.weight", 3), r"tok_emb\.weight is \(3,\), but should have 2"),
        (with_zeros("pos_emb.weight", 15, WIDTH), r"its 15 positions are no square"),
        (with_zeros("head.weight", CODES + 1, WIDTH), r"head\.weight is not tok_emb\.weight"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, spoil: Spoil, message: str) -> None:
    spoil(state := public_state())
    path = write(tmp_path / "w.pth", state)
    with pytest.raises(UserError, match=rf"^here: .*w\.pth does not fit.*{message}"):
        HaltonMaskGIT.from_file(path, "here", heads=HEADS)


def test_heads_are_asked_for_where_no_shape_tells_them(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", public_state(), prefix="")
    with pytest.raises(UserError, match=r"width 14; heads are known for 384, 512, 768, 1024 alone.*\(heads\)"):
        HaltonMaskGIT.from_file(path, "here")
    with pytest.raises(UserError, match="attention of width 12, which 5 heads do not divide"):
        HaltonMaskGIT.from_file(path, "here", heads=5)


def test_a_pickle_of_a_foreign_class_is_refused(tmp_path: Path) -> None:
    torch.save({"model_state_dict": public_state(), "args": torch.nn.Identity()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"it names torch\.nn\.modules\.linear\.Identity"):
        HaltonMaskGIT.from_file(tmp_path / "w.pth", "here", heads=HEADS)

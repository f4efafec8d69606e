"""MAGE's VQGAN in both public formats, and the network against a literal transcription on its state dict."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import Equations, Spoil, with_zeros, without
from mage_tokenizer_file import CODES, save_mage, save_titok, tokenizer_state
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.public.mage_tokenizer import MageTokenizer
from gcl_custom.weights.state_dicts import save_weights


def transcribed(state: dict[str, Tensor], tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Features before quantisation, and the decoder's output for some tokens."""

    slow = Equations(state)

    def conv(x: Tensor, name: str, padding: int = 1) -> Tensor:
        return slow.conv(name, x, padding=padding)

    def normed(x: Tensor, name: str) -> Tensor:
        return slow.swish(slow.norm(name, x))

    def residual(x: Tensor, name: str) -> Tensor:
        added, shortcut = slow.added(name, x), state.get(f"{name}.nin_shortcut.weight")
        return added + (x if shortcut is None else torch.einsum("oi,biyx->boyx", shortcut[:, :, 0, 0], added))

    x = conv(tiles, "encoder.conv_in")
    x = residual(residual(x, "encoder.down.0.block.0"), "encoder.down.0.block.1")
    x = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
    x = residual(residual(x, "encoder.down.1.block.0"), "encoder.down.1.block.1")
    x = residual(residual(x, "encoder.mid.block_1"), "encoder.mid.block_2")
    features = conv(normed(x, "encoder.norm_out"), "encoder.conv_out", padding=0)

    x = conv(state["quantize.embedding.weight"][some_tokens()].permute(0, 3, 1, 2), "decoder.conv_in")
    x = residual(residual(x, "decoder.mid.block_1"), "decoder.mid.block_2")
    x = residual(residual(x, "decoder.up.1.block.0"), "decoder.up.1.block.1")
    x = conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), "decoder.up.1.upsample.conv")
    x = residual(residual(x, "decoder.up.0.block.0"), "decoder.up.0.block.1")
    return features, conv(normed(x, "decoder.norm_out"), "decoder.conv_out")


def some_tokens() -> Tensor:
    return torch.arange(2 * 4 * 3).view(2, 4, 3) * 5 % CODES


def some_tiles() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, 8, 6)


@pytest.mark.parametrize("save", [save_mage, save_titok])
def test_both_public_formats_make_the_network_of_the_equations(
    save: Callable[[Path, dict[str, Tensor]], Path], tmp_path: Path
) -> None:
    loaded = MageTokenizer.from_file(save(tmp_path / "w.bin", tokenizer_state()), "here").eval()
    assert (loaded.codes, loaded.pixels_per_token, loaded.bands) == (CODES, 2, 3)
    with torch.no_grad():
        features, pixels = transcribed(tokenizer_state(), some_tiles())
        torch.testing.assert_close(loaded.encode(some_tiles()), features, atol=1e-5, rtol=1e-5)
        tiles = loaded.decode_tokens(some_tokens())
    torch.testing.assert_close(tiles, pixels.clamp(0, 1), atol=1e-5, rtol=1e-5)
    assert ((tiles > 0) & (tiles < 1)).float().mean() > 0.05  # so that the clamp hid nothing
    assert torch.equal(loaded.tokenise(some_tiles()), loaded.quantise(features).tokens)
    assert loaded.last_layer.shape == (3, 32, 3, 3)


def test_what_is_saved_loads_again(tmp_path: Path) -> None:
    loaded = MageTokenizer.from_file(save_titok(tmp_path / "w.bin", tokenizer_state()), "here")
    save_weights(tmp_path / "w.safetensors", loaded)
    again = MageTokenizer.from_file(tmp_path / "w.safetensors", "here").state_dict()
    assert again.keys() == tokenizer_state().keys()
    assert all(torch.equal(again[name], value) for name, value in tokenizer_state().items())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("decoder.mid.block_2.conv2.weight"), r"missing decoder\.mid\.block_2\.conv2\.weight"),
        (without("encoder.conv_in.weight"), r"missing encoder\.conv_in\.weight"),
        (with_zeros("encoder.mid.attn_1.q", 1), r"surplus encoder\.mid\.attn_1\.q"),
        (with_zeros("quant_conv.bias", 1), r"surplus vqgan\.quant_conv\.bias"),
        (with_zeros("decoder.norm_out.bias", 7), r"decoder\.norm_out\.bias is \(7,\), not \(32,\)"),
    ],
)
def test_what_does_not_fit_is_named(spoil: Spoil, message: str, tmp_path: Path) -> None:
    state = tokenizer_state()
    spoil(state)
    with pytest.raises(UserError, match=message):
        MageTokenizer.from_file(save_mage(tmp_path / "w.pth", state), "here")


def test_a_pickle_with_a_foreign_class_is_refused(tmp_path: Path) -> None:
    torch.save({"model": tokenizer_state(), "args": nn.Identity()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"it names torch\.nn\.modules\.linear\.Identity"):
        MageTokenizer.from_file(tmp_path / "w.pth", "here")

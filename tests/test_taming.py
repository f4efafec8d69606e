"""taming's VQGAN: the public format, and the network against a literal transcription on its state dict."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from families import Equations, PublicState, Spoil, with_zeros, without
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.generator.taming import TamingTokenizer
from gcl_custom.weights import save_weights

CODES, WIDTH, BOTTLENECK, STEM, LEVELS, BLOCKS = 13, 6, 5, 32, (32, 64, 64), 2
"""A small one: two levels less than the public network's (128, 128, 256, 256, 512), attention at the last."""


def public_state(levels: Sequence[int] = LEVELS, codes: int = CODES) -> dict[str, Tensor]:
    """Random weights under the names of the public file."""
    torch.manual_seed(0)
    state, deepest = PublicState(), len(levels) - 1

    for half, stage, blocks in (("encoder", "down", BLOCKS), ("decoder", "up", BLOCKS + 1)):
        channels = STEM if half == "encoder" else levels[-1]
        state.conv(f"{half}.conv_in", 3 if half == "encoder" else BOTTLENECK, channels, 3)
        for part in ("block_1", "block_2"):
            state.residual(f"{half}.mid.{part}", levels[-1], levels[-1])
        state.attention(f"{half}.mid.attn_1", levels[-1])
        for level in range(deepest + 1) if half == "encoder" else range(deepest, -1, -1):
            for block in range(blocks):
                state.residual(f"{half}.{stage}.{level}.block.{block}", channels, levels[level])
                channels = levels[level]
                if level == deepest:
                    state.attention(f"{half}.{stage}.{level}.attn.{block}", channels)
            if half == "encoder" and level < deepest:
                state.conv(f"encoder.down.{level}.downsample.conv", channels, channels, 3)
            if half == "decoder" and level > 0:
                state.conv(f"decoder.up.{level}.upsample.conv", channels, channels, 3)
        state.norm(f"{half}.norm_out", channels)
        state.conv(f"{half}.conv_out", channels, BOTTLENECK if half == "encoder" else 3, 3)
    state.conv("quant_conv", BOTTLENECK, WIDTH, 1)
    state.conv("post_quant_conv", WIDTH, BOTTLENECK, 1)
    state["quantize.embedding.weight"] = torch.randn(codes, WIDTH)
    return dict(state)  # plain, as it is saved


def save(path: Path, state: dict[str, Tensor], **more: object) -> Path:
    """As Lightning lays it out: the state of the network and of its loss, beside counters."""
    loss = {"loss.discriminator.main.0.weight": torch.zeros(2), "loss.perceptual_loss.lin0": torch.zeros(1)}
    torch.save({"epoch": 12, "global_step": 99, "state_dict": {**state, **loss}, **more}, path)
    return path


@pytest.fixture
def loaded(tmp_path: Path) -> TamingTokenizer:
    return TamingTokenizer.from_file(save(tmp_path / "last.ckpt", public_state()), "generator.tokenizer").eval()


def transcribed(state: dict[str, Tensor], tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Features before quantisation, and the decoder's output for tokens that are drawn at random."""

    slow = Equations(state)

    def middle(x: Tensor, half: str) -> Tensor:
        x = slow.attention(f"{half}.mid.attn_1", slow.residual(f"{half}.mid.block_1", x))
        return slow.residual(f"{half}.mid.block_2", x)

    x = slow.conv("encoder.conv_in", 2 * tiles - 1, padding=1)
    for number in range(3):
        x = slow.level(f"encoder.down.{number}", "block", "attn", x)
        if number < 2:
            x = slow.halved(f"encoder.down.{number}.downsample.conv", x)
    x = slow.swish(slow.norm("encoder.norm_out", middle(x, "encoder")))
    features = slow.conv("quant_conv", slow.conv("encoder.conv_out", x, padding=1))

    x = slow.conv("post_quant_conv", state["quantize.embedding.weight"][some_tokens()].permute(0, 3, 1, 2))
    x = middle(slow.conv("decoder.conv_in", x, padding=1), "decoder")
    for number in (2, 1, 0):
        x = slow.level(f"decoder.up.{number}", "block", "attn", x)
        if number > 0:
            x = slow.doubled(f"decoder.up.{number}.upsample.conv", x)
    return features, slow.conv("decoder.conv_out", slow.swish(slow.norm("decoder.norm_out", x)), padding=1)


def some_tokens() -> Tensor:
    return torch.arange(2 * 4 * 3).view(2, 4, 3) * 5 % CODES


def some_tiles() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, 16, 12)


def test_the_public_names_make_the_network_of_the_equations(loaded: TamingTokenizer) -> None:
    assert (loaded.codes, loaded.pixels_per_token, loaded.bands) == (CODES, 4, 3)
    with torch.no_grad():
        features, pixels = transcribed(public_state(), some_tiles())
        torch.testing.assert_close(loaded.encode(some_tiles()), features, atol=1e-5, rtol=1e-5)
        tiles = loaded.decode_tokens(some_tokens())
    torch.testing.assert_close(tiles, ((pixels + 1) / 2).clamp(0, 1), atol=1e-5, rtol=1e-5)
    assert ((tiles > 0) & (tiles < 1)).float().mean() > 0.05  # so that the clamp hid nothing
    assert torch.equal(loaded.tokenise(some_tiles()), loaded.quantise(features).tokens)
    assert loaded.last_layer.shape == (3, 32, 3, 3)


def test_what_is_saved_loads_again(loaded: TamingTokenizer, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", loaded)
    again = TamingTokenizer.from_file(tmp_path / "w.safetensors", "here").state_dict()
    assert again.keys() == public_state().keys()
    assert all(torch.equal(again[name], value) for name, value in public_state().items())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("encoder.down.2.attn.1.k.bias"), r"here: .*missing encoder\.down\.2\.attn\.1\.k\.bias"),
        (without("quantize.embedding.weight"), r"missing quantize\.embedding\.weight"),
        (lambda state: [state.pop(name) for name in [*state] if ".down." in name], r"missing encoder\.down\.0"),
        (with_zeros("encoder.extra", 1), r"surplus encoder\.extra"),
        (with_zeros("quant_conv.bias", 7), r"quant_conv\.bias is \(7,\), not \(6,\)"),
        (
            with_zeros("encoder.conv_in.weight", 30, 3, 3, 3),
            r"encoder\.conv_in\.weight gives 30 channels, no multiple of 32",
        ),
    ],
)
def test_what_does_not_fit_is_named(spoil: Spoil, message: str, tmp_path: Path) -> None:
    state = public_state()
    spoil(state)
    with pytest.raises(UserError, match=message):
        TamingTokenizer.from_file(save(tmp_path / "last.ckpt", state), "here")


class Callback:
    """Stands for what Lightning pickles beside the weights."""


def test_a_pickle_with_a_foreign_class_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "last.ckpt", public_state(), callbacks={"checkpoint": Callback()})
    with pytest.raises(
        UserError, match=r"last\.ckpt is a pickle that holds more than tensors \(it names test_taming\.Callback\)"
    ):
        TamingTokenizer.from_file(path, "here")
    torch.save(public_state(), path)
    assert TamingTokenizer.from_file(path, "here").codes == CODES

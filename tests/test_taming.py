"""taming's VQGAN: the public format, and the network against a literal transcription on its state dict."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.generator.taming import TamingTokenizer
from gcl_custom.weights import save_weights

CODES, WIDTH, BOTTLENECK, STEM, LEVELS, BLOCKS = 13, 6, 5, 32, (32, 64, 64), 2
"""A small one: two levels less than the public network's (128, 128, 256, 256, 512), attention at the last."""


def public_state(levels: Sequence[int] = LEVELS, codes: int = CODES) -> dict[str, Tensor]:
    """Random weights under the names of the public file."""
    torch.manual_seed(0)
    deepest = len(levels) - 1
    state: dict[str, Tensor] = {}

    def conv(name: str, enter: int, leave: int, kernel: int) -> None:
        state[f"{name}.weight"] = torch.randn(leave, enter, kernel, kernel) / (enter * kernel**2) ** 0.5
        state[f"{name}.bias"] = 0.2 * torch.randn(leave)

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = 1 + 0.2 * torch.randn(channels)
        state[f"{name}.bias"] = 0.2 * torch.randn(channels)

    def residual(name: str, enter: int, leave: int) -> None:
        norm(f"{name}.norm1", enter)
        conv(f"{name}.conv1", enter, leave, 3)
        norm(f"{name}.norm2", leave)
        conv(f"{name}.conv2", leave, leave, 3)
        if enter != leave:
            conv(f"{name}.nin_shortcut", enter, leave, 1)

    def attention(name: str, channels: int) -> None:
        norm(f"{name}.norm", channels)
        for part in ("q", "k", "v", "proj_out"):
            conv(f"{name}.{part}", channels, channels, 1)

    for half, stage, blocks in (("encoder", "down", BLOCKS), ("decoder", "up", BLOCKS + 1)):
        channels = STEM if half == "encoder" else levels[-1]
        conv(f"{half}.conv_in", 3 if half == "encoder" else BOTTLENECK, channels, 3)
        for part in ("block_1", "block_2"):
            residual(f"{half}.mid.{part}", levels[-1], levels[-1])
        attention(f"{half}.mid.attn_1", levels[-1])
        for level in range(deepest + 1) if half == "encoder" else range(deepest, -1, -1):
            for block in range(blocks):
                residual(f"{half}.{stage}.{level}.block.{block}", channels, levels[level])
                channels = levels[level]
                if level == deepest:
                    attention(f"{half}.{stage}.{level}.attn.{block}", channels)
            if half == "encoder" and level < deepest:
                conv(f"encoder.down.{level}.downsample.conv", channels, channels, 3)
            if half == "decoder" and level > 0:
                conv(f"decoder.up.{level}.upsample.conv", channels, channels, 3)
        norm(f"{half}.norm_out", channels)
        conv(f"{half}.conv_out", channels, BOTTLENECK if half == "encoder" else 3, 3)
    conv("quant_conv", BOTTLENECK, WIDTH, 1)
    conv("post_quant_conv", WIDTH, BOTTLENECK, 1)
    state["quantize.embedding.weight"] = torch.randn(codes, WIDTH)
    return state


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

    def conv(x: Tensor, name: str, **how: int) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    def norm(x: Tensor, name: str) -> Tensor:
        groups = x.reshape(len(x), 32, -1)
        mean, var = groups.mean(dim=2, keepdim=True), groups.var(dim=2, correction=0, keepdim=True)
        scale, shift = (state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
        return ((groups - mean) / (var + 1e-6).sqrt()).reshape(x.shape) * scale + shift

    def swish(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    def residual(x: Tensor, name: str) -> Tensor:
        h = conv(swish(norm(x, f"{name}.norm1")), f"{name}.conv1", padding=1)
        h = conv(swish(norm(h, f"{name}.norm2")), f"{name}.conv2", padding=1)
        return h + (conv(x, f"{name}.nin_shortcut") if f"{name}.nin_shortcut.weight" in state else x)

    def attention(x: Tensor, name: str) -> Tensor:
        h = norm(x, f"{name}.norm")
        q, k, v = (conv(h, f"{name}.{part}").flatten(2) for part in "qkv")
        weights = (torch.einsum("bci,bcj->bij", q, k) / x.shape[1] ** 0.5).softmax(dim=2)
        return x + conv(torch.einsum("bij,bcj->bci", weights, v).view(x.shape), f"{name}.proj_out")

    def middle(x: Tensor, half: str) -> Tensor:
        return residual(attention(residual(x, f"{half}.mid.block_1"), f"{half}.mid.attn_1"), f"{half}.mid.block_2")

    def level(x: Tensor, name: str, blocks: int) -> Tensor:
        for i in range(blocks):
            x = residual(x, f"{name}.block.{i}")
            x = attention(x, f"{name}.attn.{i}") if f"{name}.attn.{i}.q.weight" in state else x
        return x

    x = conv(2 * tiles - 1, "encoder.conv_in", padding=1)
    for number in range(3):
        x = level(x, f"encoder.down.{number}", 2)
        if number < 2:
            wider = torch.zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1)
            wider[:, :, :-1, :-1] = x
            x = conv(wider, f"encoder.down.{number}.downsample.conv", stride=2)
    x = conv(swish(norm(middle(x, "encoder"), "encoder.norm_out")), "encoder.conv_out", padding=1)
    features = conv(x, "quant_conv")

    x = conv(state["quantize.embedding.weight"][some_tokens()].permute(0, 3, 1, 2), "post_quant_conv")
    x = middle(conv(x, "decoder.conv_in", padding=1), "decoder")
    for number in (2, 1, 0):
        x = level(x, f"decoder.up.{number}", 3)
        if number > 0:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = conv(x, f"decoder.up.{number}.upsample.conv", padding=1)
    return features, conv(swish(norm(x, "decoder.norm_out")), "decoder.conv_out", padding=1)


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


def without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("encoder.down.2.attn.1.k.bias"), r"here: .*missing encoder\.down\.2\.attn\.1\.k\.bias"),
        (without("quantize.embedding.weight"), r"missing quantize\.embedding\.weight"),
        (lambda state: [state.pop(name) for name in [*state] if ".down." in name], r"missing encoder\.down\.0"),
        (lambda state: state.update({"encoder.extra": torch.zeros(1)}), r"surplus encoder\.extra"),
        (
            lambda state: state.update({"quant_conv.bias": torch.zeros(7)}),
            r"quant_conv\.bias is \(7,\), not \(6,\)",
        ),
        (
            lambda state: state.update({"encoder.conv_in.weight": torch.zeros(30, 3, 3, 3)}),
            r"encoder\.conv_in\.weight gives 30 channels, no multiple of 32",
        ),
    ],
)
def test_what_does_not_fit_is_named(spoil: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path) -> None:
    state = public_state()
    spoil(state)
    with pytest.raises(UserError, match=message):
        TamingTokenizer.from_file(save(tmp_path / "last.ckpt", state), "here")


class Callback:
    """Stands for what Lightning pickles beside the weights."""


def test_a_pickle_with_a_foreign_class_is_refused_with_the_conversion(tmp_path: Path) -> None:
    path = save(tmp_path / "last.ckpt", public_state(), callbacks={"checkpoint": Callback()})
    with pytest.raises(UserError, match=r"test_taming\.Callback\).*gcl-custom weights --convert .*last\.ckpt"):
        TamingTokenizer.from_file(path, "here")
    torch.save(public_state(), path)
    assert TamingTokenizer.from_file(path, "here").codes == CODES

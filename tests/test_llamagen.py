"""LlamaGen's tokenizer: its public file's form, a literal transcription of its equations, and its loss by hand."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.generator import masks
from gcl_custom.generator.halton_maskgit import HaltonMaskGIT
from gcl_custom.generator.inpainting import inpaint
from gcl_custom.generator.llamagen import LlamaGenTokenizer, SphereQuantizer
from gcl_custom.randomness import Randomness
from gcl_custom.recipe import Views
from gcl_custom.weights import save_weights

CODES, CODE_WIDTH, CHANNELS, WIDTHS, BLOCKS, INNER = 37, 4, 32, [32, 64, 64], 2, 8
"""Three levels in place of five, so one token for 4x4 pixels; the channels change once, as in the public file."""


def public_state(widths: Sequence[int] = WIDTHS, codes: int = CODES) -> dict[str, Tensor]:
    """Random weights under the public names, written out here so that a change of ours shows."""
    torch.manual_seed(0)
    deepest = len(widths) - 1
    state: dict[str, Tensor] = {}

    def convolution(name: str, enter: int, leave: int, side: int) -> None:
        state[f"{name}.weight"] = torch.randn(leave, enter, side, side) / (enter * side**2) ** 0.5
        state[f"{name}.bias"] = torch.randn(leave) * 0.1

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.2 * torch.randn(channels), 0.2 * torch.randn(channels)

    def residual(name: str, enter: int, leave: int) -> None:
        norm(f"{name}.norm1", enter)
        convolution(f"{name}.conv1", enter, leave, 3)
        norm(f"{name}.norm2", leave)
        convolution(f"{name}.conv2", leave, leave, 3)
        if enter != leave:
            convolution(f"{name}.nin_shortcut", enter, leave, 1)

    def attention(name: str, channels: int) -> None:
        norm(f"{name}.norm", channels)
        for part in ("q", "k", "v", "proj_out"):
            convolution(f"{name}.{part}", channels, channels, 1)

    def middle(name: str) -> None:
        residual(f"{name}.0", widths[-1], widths[-1])
        attention(f"{name}.1", widths[-1])
        residual(f"{name}.2", widths[-1], widths[-1])

    convolution("encoder.conv_in", 3, CHANNELS, 3)
    now = CHANNELS
    for level, width in enumerate(widths):
        for block in range(BLOCKS):
            residual(f"encoder.conv_blocks.{level}.res.{block}", now, width)
            now = width
            if level == deepest:
                attention(f"encoder.conv_blocks.{level}.attn.{block}", width)
        if level < deepest:
            convolution(f"encoder.conv_blocks.{level}.downsample.conv", width, width, 3)
    middle("encoder.mid")
    norm("encoder.norm_out", now)
    convolution("encoder.conv_out", now, INNER, 3)
    convolution("quant_conv", INNER, CODE_WIDTH, 1)
    state["quantize.embedding.weight"] = torch.randn(codes, CODE_WIDTH)
    state["quantize.codebook_used"] = torch.zeros(65536)
    convolution("post_quant_conv", CODE_WIDTH, INNER, 1)
    convolution("decoder.conv_in", INNER, now, 3)
    middle("decoder.mid")
    for number, width in enumerate(reversed(widths)):
        for block in range(BLOCKS + 1):
            residual(f"decoder.conv_blocks.{number}.res.{block}", now, width)
            now = width
            if number == 0:
                attention(f"decoder.conv_blocks.0.attn.{block}", width)
        if number < deepest:
            convolution(f"decoder.conv_blocks.{number}.upsample.conv", width, width, 3)
    norm("decoder.norm_out", now)
    convolution("decoder.conv_out", now, 3, 3)
    return state


def write(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"model": state}, path)
    return path


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> LlamaGenTokenizer:
    path = write(tmp_path_factory.mktemp("public") / "vq_ds16_c2i.pt", public_state())
    return LlamaGenTokenizer.from_file(path, "here").eval()


class ByTheEquations:
    """The tokenizer as functional calls on the public state, in fp64."""

    def __init__(self) -> None:
        self.w = {name: value.double() for name, value in public_state().items()}

    def conv(self, name: str, x: Tensor, **options: Any) -> Tensor:
        return F.conv2d(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], **options)

    def norm(self, name: str, x: Tensor) -> Tensor:
        grouped = x.reshape(len(x), 32, -1)
        variance, mean = torch.var_mean(grouped, dim=2, keepdim=True, correction=0)
        unit = ((grouped - mean) / (variance + 1e-6).sqrt()).view_as(x)
        return unit * self.w[f"{name}.weight"][:, None, None] + self.w[f"{name}.bias"][:, None, None]

    def swish(self, x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-x))

    def residual(self, name: str, x: Tensor) -> Tensor:
        inner = self.conv(f"{name}.conv1", self.swish(self.norm(f"{name}.norm1", x)), padding=1)
        inner = self.conv(f"{name}.conv2", self.swish(self.norm(f"{name}.norm2", inner)), padding=1)
        shortcut = f"{name}.nin_shortcut"
        return inner + (self.conv(shortcut, x) if f"{shortcut}.weight" in self.w else x)

    def attention(self, name: str, x: Tensor) -> Tensor:
        q, k, v = (self.conv(f"{name}.{part}", self.norm(f"{name}.norm", x)).flatten(2) for part in "qkv")
        weights = (torch.einsum("bci,bcj->bij", q, k) / math.sqrt(x.shape[1])).exp()
        weights = weights / weights.sum(dim=2, keepdim=True)
        return x + self.conv(f"{name}.proj_out", torch.einsum("bij,bcj->bci", weights, v).view_as(x))

    def middle(self, name: str, x: Tensor) -> Tensor:
        x = self.residual(f"{name}.0", x)
        return self.residual(f"{name}.2", self.attention(f"{name}.1", x))

    def level(self, name: str, x: Tensor, blocks: int) -> Tensor:
        for block in range(blocks):
            x = self.residual(f"{name}.res.{block}", x)
            if f"{name}.attn.{block}.q.weight" in self.w:
                x = self.attention(f"{name}.attn.{block}", x)
        return x

    def encode(self, tiles: Tensor) -> Tensor:
        x = self.conv("encoder.conv_in", tiles.double() * 2 - 1, padding=1)
        for level in range(3):
            x = self.level(f"encoder.conv_blocks.{level}", x, BLOCKS)
            if level < 2:
                b, k, height, width = x.shape
                larger = torch.zeros(b, k, height + 1, width + 1, dtype=x.dtype)
                larger[:, :, :height, :width] = x
                x = self.conv(f"encoder.conv_blocks.{level}.downsample.conv", larger, stride=2)
        x = self.swish(self.norm("encoder.norm_out", self.middle("encoder.mid", x)))
        return self.conv("quant_conv", self.conv("encoder.conv_out", x, padding=1))

    def tokens(self, features: Tensor) -> Tensor:
        """By the distance of every unit feature to every unit code."""
        codes = self.w["quantize.embedding.weight"]
        codes = codes / codes.square().sum(dim=1, keepdim=True).sqrt()
        flat = features.double().permute(0, 2, 3, 1)
        flat = flat / flat.square().sum(dim=3, keepdim=True).sqrt()
        return (flat[..., None, :] - codes).square().sum(dim=4).argmin(dim=3)

    def decode(self, tokens: Tensor) -> Tensor:
        codes = self.w["quantize.embedding.weight"]
        codes = codes / codes.square().sum(dim=1, keepdim=True).sqrt()
        x = self.conv("post_quant_conv", codes[tokens].permute(0, 3, 1, 2))
        x = self.middle("decoder.mid", self.conv("decoder.conv_in", x, padding=1))
        for number in range(3):
            x = self.level(f"decoder.conv_blocks.{number}", x, BLOCKS + 1)
            if number < 2:
                x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
                x = self.conv(f"decoder.conv_blocks.{number}.upsample.conv", x, padding=1)
        return (self.conv("decoder.conv_out", self.swish(self.norm("decoder.norm_out", x)), padding=1) + 1) / 2


def tiles(number: int = 2) -> Tensor:
    return torch.rand(number, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def test_sizes_are_those_of_the_file(net: LlamaGenTokenizer) -> None:
    assert (net.codes, net.pixels_per_token, net.bands) == (CODES, 4, 3)
    assert net.last_layer is net.get_parameter("decoder.conv_out.weight")


def test_every_step_by_the_equations(net: LlamaGenTokenizer) -> None:
    slow = ByTheEquations()
    with torch.no_grad():
        features, expected = net.encode(tiles()), slow.encode(tiles())
        assert features.shape == (2, CODE_WIDTH, 4, 6)
        torch.testing.assert_close(features.double(), expected, rtol=0, atol=2e-5)
        tokens = net.tokenise(tiles())
        assert torch.equal(tokens, slow.tokens(features))
        assert len(tokens.unique()) > 5
        picture = slow.decode(tokens)
        assert picture.min() < 0 < 1 < picture.max(), "so that clamping shows"
        for decoded in (net.decode_tokens(tokens), net.decode(net.quantise(features).features), net(tiles())[0]):
            torch.testing.assert_close(decoded.double(), picture.clamp(0, 1), rtol=0, atol=2e-5)
        training = copy.deepcopy(net).train()
        torch.testing.assert_close(training(tiles())[0].double(), picture, rtol=0, atol=2e-5)
        torch.testing.assert_close(training.decode_tokens(tokens).double(), picture.clamp(0, 1), rtol=0, atol=2e-5)


def test_loss_and_straight_through_gradients_by_hand() -> None:
    torch.manual_seed(2)
    quantizer, features = SphereQuantizer(5, 3), torch.randn(2, 3, 2, 2, requires_grad=True)
    quantised = quantizer(features)
    unit = features / features.square().sum(dim=1, keepdim=True).sqrt()
    codes = quantizer.embedding.weight / quantizer.embedding.weight.square().sum(dim=1, keepdim=True).sqrt()
    chosen = codes[quantised.tokens].permute(0, 3, 1, 2)
    torch.testing.assert_close(quantised.features, chosen)
    distance = (unit - chosen).square().mean()
    torch.testing.assert_close(quantised.loss, 1.25 * distance)
    # The codebook's term reaches the codes alone, the commitment the features alone at a quarter of it.
    whole_features, whole_codes = torch.autograd.grad(
        distance, [features, quantizer.embedding.weight], retain_graph=True
    )
    of_features, of_codes = torch.autograd.grad(
        quantised.loss, [features, quantizer.embedding.weight], retain_graph=True
    )
    torch.testing.assert_close(of_features, 0.25 * whole_features)
    torch.testing.assert_close(of_codes, whole_codes)
    # What follows sees the code; its gradient passes to the unit feature as though there were no quantisation.
    towards = torch.randn_like(chosen)
    (through,) = torch.autograd.grad((quantised.features * towards).sum(), features, retain_graph=True)
    torch.testing.assert_close(through, torch.autograd.grad((unit * towards).sum(), features)[0])


def test_only_directions_of_features_and_codes_count(net: LlamaGenTokenizer) -> None:
    features = torch.randn(1, CODE_WIDTH, 3, 3)
    quantised = net.quantise(features)
    longer = copy.deepcopy(net)
    with torch.no_grad():
        longer.quantize.embedding.weight.mul_(torch.rand(CODES, 1) + 0.1)
    other = longer.quantise(7 * features)
    assert torch.equal(other.tokens, quantised.tokens)
    torch.testing.assert_close(other.features, quantised.features)


def test_tokens_are_compared_in_fp32_under_autocast_and_in_bf16(net: LlamaGenTokenizer) -> None:
    features = torch.randn(1, CODE_WIDTH, 60, 60)  # so many that rounded distances would change some token
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        inside = net.quantise(features)
    assert torch.equal(inside.features, net.quantise(features).features)
    rough = copy.deepcopy(net).to(torch.bfloat16)
    with torch.no_grad():
        decoded, exact = rough.decode_tokens(net.tokenise(tiles())), net.decode_tokens(net.tokenise(tiles()))
        assert rough.tokenise(tiles()).shape == (2, 4, 6)
    assert decoded.dtype == torch.float32
    assert (decoded - exact).abs().mean() < 0.03


def test_comparing_in_parts_changes_nothing(net: LlamaGenTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(3, CODE_WIDTH, 3, 3)
    whole = net.quantise(features).tokens
    monkeypatch.setattr("gcl_custom.generator.llamagen.COMPARED_AT_ONCE", 4)
    assert torch.equal(net.quantise(features).tokens, whole)


def test_a_tile_is_outpainted_with_the_transformer_of_the_family(net: LlamaGenTokenizer) -> None:
    torch.manual_seed(4)
    transformer = HaltonMaskGIT(CODES, 5, 32, 2, depth=1, inner=32, hidden=32, classes=3, registers=1).eval()
    given = torch.rand(4, 3, 20, 20)

    @torch.no_grad()
    def view(of: Tensor, number: int, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rng = Randomness(3, "views", number, which)
        corners = masks.place(rng, 20, 15)
        tokens = net.tokenise(masks.lay(of, corners, 15))
        hidden = masks.outside(corners, 15, net.pixels_per_token, transformer.grid)
        painted = inpaint(transformer, tokens, hidden, rng, Views(order="halton"))
        assert torch.equal(painted[~hidden], tokens[~hidden])
        return painted, hidden, net.decode_tokens(painted)

    painted, hidden, decoded = view(given, 0, torch.arange(4))
    assert decoded.shape == given.shape
    assert hidden.flatten(1).any(dim=1).all()
    assert (~hidden).flatten(1).any(dim=1).all()
    alone, _, _ = view(given[2:3], 0, torch.tensor([2]))
    assert torch.equal(alone, painted[2:3]), "whatever the batch"
    assert not torch.equal(view(given, 1, torch.arange(4))[0], painted)


def test_what_is_saved_loads_again(net: LlamaGenTokenizer, tmp_path: Path) -> None:
    state = public_state()
    del state["quantize.codebook_used"]
    save_weights(tmp_path / "w.safetensors", net)
    again = LlamaGenTokenizer.from_file(tmp_path / "w.safetensors", "here").state_dict()
    assert again.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in again.items())


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in public_state().items() if key != name}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (without("decoder.mid.1.q.bias"), r"missing decoder\.mid\.1\.q\.bias$"),
        (without("encoder.conv_out.weight"), r"missing encoder\.conv_out\.weight"),
        (
            without("encoder.conv_blocks.1.res.0.conv1.weight"),
            r"missing encoder\.conv_blocks\.1\.res\.0\.conv1\.weight",
        ),
        (public_state() | {"loss.logvar": torch.zeros(1)}, r"surplus loss\.logvar$"),
        (public_state() | {"quant_conv.bias": torch.zeros(5)}, r"quant_conv\.bias is \(5,\), not \(4,\)$"),
        (public_state() | {"encoder.conv_in.weight": torch.zeros(8, 3, 3, 3)}, r"conv_in\.weight has 8 channels"),
        (public_state() | {"quantize.embedding.weight": torch.zeros(3)}, r"embedding\.weight is \(3,\), but should"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, state: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"^here: .*w\.pt does not fit.*{message}"):
        LlamaGenTokenizer.from_file(write(tmp_path / "w.pt", state), "here")


def test_a_pickle_of_a_foreign_class_is_refused(tmp_path: Path) -> None:
    torch.save({"model": public_state(), "args": torch.nn.Identity()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"it names torch\.nn\.modules\.linear\.Identity"):
        LlamaGenTokenizer.from_file(tmp_path / "w.pt", "here")

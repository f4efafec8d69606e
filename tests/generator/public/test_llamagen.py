"""LlamaGen's tokenizer: its public file's form, a literal transcription of its equations, and its loss by hand."""

import copy
from pathlib import Path

import pytest
import torch
from families import Equations, Spoil, with_zeros, without
from llamagen_file import BLOCKS, CODE_WIDTH, CODES, public_state, write
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.generator.augment import masks
from gcl_custom.generator.augment.inpainting import inpaint
from gcl_custom.generator.public.halton_maskgit import HaltonMaskGIT
from gcl_custom.generator.public.llamagen import LlamaGenTokenizer
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.views import ViewsSettings
from gcl_custom.weights.state_dicts import save_weights


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> LlamaGenTokenizer:
    path = write(tmp_path_factory.mktemp("public") / "vq_ds16_c2i.pt", public_state())
    return LlamaGenTokenizer.from_file(path, "here").eval()


class ByTheEquations(Equations):
    """The tokenizer in fp64."""

    def __init__(self) -> None:
        super().__init__({name: value.double() for name, value in public_state().items()})

    def middle(self, name: str, x: Tensor) -> Tensor:
        x = self.residual(f"{name}.0", x)
        return self.residual(f"{name}.2", self.attention(f"{name}.1", x))

    def level(self, name: str, blocks: int, x: Tensor) -> Tensor:
        """Residual blocks, each with its attention if it has one."""
        for i in range(blocks):
            x = self.residual(f"{name}.res.{i}", x)
            if f"{name}.attn.{i}.q.weight" in self.w:
                x = self.attention(f"{name}.attn.{i}", x)
        return x

    def encode(self, tiles: Tensor) -> Tensor:
        x = self.conv("encoder.conv_in", tiles.double() * 2 - 1, padding=1)
        for level in range(3):
            x = self.level(f"encoder.conv_blocks.{level}", BLOCKS, x)
            if level < 2:
                x = self.halved(f"encoder.conv_blocks.{level}.downsample.conv", x)
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
            x = self.level(f"decoder.conv_blocks.{number}", BLOCKS + 1, x)
            if number < 2:
                x = self.doubled(f"decoder.conv_blocks.{number}.upsample.conv", x)
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


def test_loss_and_straight_through_gradients_by_hand(net: LlamaGenTokenizer) -> None:
    torch.manual_seed(2)
    stored, features = net.quantize.embedding.weight, torch.randn(2, CODE_WIDTH, 2, 2, requires_grad=True)
    quantised = net.quantise(features)
    unit = features / features.square().sum(dim=1, keepdim=True).sqrt()
    codes = stored / stored.square().sum(dim=1, keepdim=True).sqrt()
    chosen = codes[quantised.tokens].permute(0, 3, 1, 2)
    torch.testing.assert_close(quantised.features, chosen)
    distance = (unit - chosen).square().mean()
    torch.testing.assert_close(quantised.loss, 1.25 * distance)
    # The codebook's term reaches the codes alone, the commitment the features alone at a quarter of it.
    whole_features, whole_codes = torch.autograd.grad(distance, [features, stored], retain_graph=True)
    of_features, of_codes = torch.autograd.grad(quantised.loss, [features, stored], retain_graph=True)
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
        painted = inpaint(transformer, tokens, hidden, rng, ViewsSettings(order="halton"))
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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("decoder.mid.1.q.bias"), r"missing decoder\.mid\.1\.q\.bias$"),
        (without("encoder.conv_out.weight"), r"missing encoder\.conv_out\.weight"),
        (
            without("encoder.conv_blocks.1.res.0.conv1.weight"),
            r"missing encoder\.conv_blocks\.1\.res\.0\.conv1\.weight",
        ),
        (with_zeros("loss.logvar", 1), r"surplus loss\.logvar$"),
        (with_zeros("quant_conv.bias", 5), r"quant_conv\.bias is \(5,\), not \(4,\)$"),
        (with_zeros("encoder.conv_in.weight", 8, 3, 3, 3), r"conv_in\.weight gives 8 channels"),
        (with_zeros("quantize.embedding.weight", 3), r"embedding\.weight is \(3,\), but should"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, spoil: Spoil, message: str) -> None:
    spoil(state := public_state())
    with pytest.raises(UserError, match=rf"^here: .*w\.pt does not fit.*{message}"):
        LlamaGenTokenizer.from_file(write(tmp_path / "w.pt", state), "here")


def test_a_pickle_of_a_foreign_class_is_refused(tmp_path: Path) -> None:
    torch.save({"model": public_state(), "args": torch.nn.Identity()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"it names torch\.nn\.modules\.linear\.Identity"):
        LlamaGenTokenizer.from_file(tmp_path / "w.pt", "here")

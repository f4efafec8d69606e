"""What public generators share: laws of the verbs, the codebook by the slow formula, and sizes from shapes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.augment.inpainting import inpaint
from gcl_custom.generator.augment.packed_attention import Cache, PackedPositions
from gcl_custom.generator.public.token_networks import (
    PretrainedTokenizer,
    PretrainedTransformer,
    attend,
    grid_of,
    heads_of,
)
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.views import ViewsSettings


class Squares(PretrainedTokenizer):
    """Codes are the mean colours of 2x2 squares, seen through a scale."""

    pixels_per_token = 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.codes_of_colours = nn.Parameter(2 * torch.rand(7, 3) - 0.3)

    @property
    def codebook(self) -> Tensor:
        return self.codes_of_colours

    @property
    def last_layer(self) -> Tensor:
        return self.scale

    def _features(self, tiles: Tensor) -> Tensor:
        return self.scale * F.avg_pool2d(tiles, 2)

    def _tiles(self, features: Tensor) -> Tensor:
        return F.interpolate(features / self.scale, scale_factor=2.0)


def test_each_feature_takes_the_nearest_code() -> None:
    net, tiles = Squares(), torch.rand(2, 3, 8, 6)
    features = net.encode(tiles)
    quantised = net.quantise(features)
    distances = []
    for b, y, x in [(b, y, x) for b in range(2) for y in range(4) for x in range(3)]:
        away = [(features[b, :, y, x] - code).square().sum().item() for code in net.codebook]
        token = int(quantised.tokens[b, y, x])
        assert away[token] == min(away)
        torch.testing.assert_close(quantised.features[b, :, y, x], net.codebook[token])
        distances.append(min(away) / 3)
    assert quantised.loss.item() == pytest.approx(1.25 * sum(distances) / len(distances))
    assert torch.equal(net.tokenise(tiles), quantised.tokens)


def test_gradients_of_commitment_codebook_and_reconstruction_go_where_they_belong() -> None:
    net = Squares()
    features = net.encode(torch.rand(2, 3, 8, 6)).detach().requires_grad_()
    quantised = net.quantise(features)
    to_features, to_codes = torch.autograd.grad(quantised.loss, [features, net.codes_of_colours], retain_graph=True)
    apart = features - quantised.features
    torch.testing.assert_close(to_features, 0.25 * 2 * apart / apart.numel())
    expected = torch.zeros_like(net.codebook).index_add(
        0, quantised.tokens.flatten(), (-2 * apart / apart.numel()).permute(0, 2, 3, 1).flatten(0, 2)
    )
    torch.testing.assert_close(to_codes, expected)
    (straight,) = torch.autograd.grad(quantised.features.sum(), features)
    assert torch.equal(straight, torch.ones_like(features))


def test_tiles_are_clamped_outside_training_only() -> None:
    net, tiles = Squares(), torch.rand(4, 3, 8, 8)
    free, _ = net.train()(tiles)
    assert free.min() < 0
    assert torch.equal(net.eval()(tiles)[0], free.clamp(0, 1))
    torch.testing.assert_close(net.decode_tokens(net.tokenise(tiles)), net(tiles)[0])
    torch.testing.assert_close(net.train().decode_tokens(net.tokenise(tiles)), free.clamp(0, 1))


def test_distances_are_in_fp32_under_autocast_and_for_bf16_weights() -> None:
    net, tiles = Squares().eval(), torch.rand(4, 3, 8, 8)
    features = net.encode(tiles)
    expected = net.quantise(features)
    with torch.autocast("cpu", torch.bfloat16):
        quantised = net.quantise(features)
    assert torch.equal(quantised.tokens, expected.tokens)
    assert quantised.loss.dtype == torch.float32
    assert net.to(torch.bfloat16)(tiles)[0].dtype == torch.float32


class Counts(PretrainedTransformer):
    """Likes at each position the tokens that are visible somewhere in the tile, more so further down."""

    codes, grid = 5, 3

    def logits_at(self, tokens: Tensor, hidden: Tensor, at: Tensor) -> Tensor:
        seen = (F.one_hot(tokens, 5) * ~hidden[..., None]).flatten(1, 2).sum(dim=1)
        return (torch.arange(1, 10)[None, :, None] * seen[:, None]).float()[at]


def example() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    hidden = torch.rand(3, 3, 3) < 0.5
    hidden[2] = False
    return torch.randint(5, (3, 3, 3)), hidden


def test_logits_everywhere_and_at_some_positions_agree() -> None:
    tokens, hidden = example()
    logits = Counts()(tokens, hidden)
    assert logits.shape == (3, 3, 3, 5)
    at = hidden.flatten(1)
    assert torch.equal(Counts().predict(tokens, hidden, at, Cache()), logits.flatten(1, 2)[at])
    assert torch.equal(logits[:, 2, 1], logits[:, 0, 0] * 8)


def test_loss_is_the_smoothed_cross_entropy_at_hidden_positions() -> None:
    tokens, hidden = example()
    terms: dict[float, list[float]] = {0.0: [], 0.1: []}
    for b, y, x in hidden.nonzero().tolist():
        logp = Counts()(tokens, hidden)[b, y, x].log_softmax(dim=0)
        for smoothing, found in terms.items():
            found.append(-((1 - smoothing) * logp[tokens[b, y, x]] + smoothing * logp.mean()).item())
    mean = {smoothing: sum(found) / len(found) for smoothing, found in terms.items()}
    assert Counts().loss(tokens, hidden).item() == pytest.approx(mean[0.1], rel=1e-5)
    assert Counts().loss(tokens, hidden, smoothing=0.0).item() == pytest.approx(mean[0.0], rel=1e-5)


def test_inpainting_leaves_visible_tokens_alone() -> None:
    tokens, hidden = example()
    painted = inpaint(
        Counts(), tokens, hidden, Randomness(0, "views", 0, torch.arange(3)), ViewsSettings(decoding_steps=3)
    )
    assert torch.equal(painted[~hidden], tokens[~hidden])
    assert not torch.equal(painted, tokens)


def test_attention_at_some_positions_equals_torch() -> None:
    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(3, 5, 8)
    nn.init.normal_(layer.in_proj_bias)
    expected = layer(x, x, x)[0]
    assert layer.out_proj is not None
    found = layer.out_proj(attend(x, layer.in_proj_weight, layer.in_proj_bias, 2))
    torch.testing.assert_close(found, expected)
    some = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 1]], dtype=torch.bool)
    found = layer.out_proj(attend(x, layer.in_proj_weight, layer.in_proj_bias, 2, PackedPositions(some)))
    torch.testing.assert_close(found, expected[some])


def test_a_grid_is_square() -> None:
    assert grid_of("file", 49) == 7
    with pytest.raises(UserError, match="its 48 positions are no square"):
        grid_of("file", 48)


def test_heads_come_from_the_table_unless_they_are_given() -> None:
    known = {512: 6, 768: 12}
    assert heads_of("file", 768, known, None) == 12
    assert heads_of("file", 768, known, 6) == 6
    assert heads_of("file", 512, known, None, inner=510) == 6
    with pytest.raises(UserError, match=r"width 32; heads are known for 512, 768 alone.*\(heads\)"):
        heads_of("file", 32, known, None)
    with pytest.raises(UserError, match="width 32, which 5 heads do not divide"):
        heads_of("file", 32, known, 5)
    with pytest.raises(UserError, match="width 512, which 6 heads do not divide"):
        heads_of("file", 512, known, None)

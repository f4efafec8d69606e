"""What tests of public generators share: draws, states under public names and ways to spoil them, equations, laws."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gcl_custom.generator.augment.inpainting import inpaint
from gcl_custom.generator.augment.packed_attention import Cache
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.views import ViewsSettings

Spoil = Callable[[dict[str, Tensor]], object]


def rng(*tiles: int, seed: int = 0, view: int = 0) -> Randomness:
    return Randomness(seed, "views", view, torch.tensor(tiles))


def without(name: str) -> Spoil:
    return lambda state: state.pop(name)


def with_zeros(name: str, *shape: int) -> Spoil:
    """A tensor more, or another in the place of one."""
    return lambda state: state.update({name: torch.zeros(shape)})


class PublicState(dict[str, Tensor]):
    """Random weights under public names, away from what layers start with; each method adds one part."""

    def _add(self, name: str, *shape: int, bias: bool = True) -> None:
        self[f"{name}.weight"] = torch.randn(shape) / torch.Size(shape[1:]).numel() ** 0.5
        if bias:
            self[f"{name}.bias"] = 0.2 * torch.randn(shape[0])

    def linear(self, name: str, enter: int, leave: int) -> None:
        self._add(name, leave, enter)

    def conv(self, name: str, enter: int, leave: int, side: int, bias: bool = True) -> None:
        self._add(name, leave, enter, side, side, bias=bias)

    def norm(self, name: str, width: int) -> None:
        self[f"{name}.weight"] = 1 + 0.2 * torch.randn(width)
        self[f"{name}.bias"] = 0.2 * torch.randn(width)

    def residual(self, name: str, enter: int, leave: int) -> None:
        self.norm(f"{name}.norm1", enter)
        self.conv(f"{name}.conv1", enter, leave, 3)
        self.norm(f"{name}.norm2", leave)
        self.conv(f"{name}.conv2", leave, leave, 3)
        if enter != leave:
            self.conv(f"{name}.nin_shortcut", enter, leave, 1)

    def attention(self, name: str, channels: int) -> None:
        self.norm(f"{name}.norm", channels)
        for part in ("q", "k", "v", "proj_out"):
            self.conv(f"{name}.{part}", channels, channels, 1)


class Equations:
    """Parts of a VQGAN as functional calls on a state, in its precision."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.w = state

    def conv(self, name: str, x: Tensor, **how: Any) -> Tensor:
        return F.conv2d(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"), **how)

    def norm(self, name: str, x: Tensor) -> Tensor:
        groups = x.reshape(len(x), 32, -1)
        mean, var = groups.mean(dim=2, keepdim=True), groups.var(dim=2, correction=0, keepdim=True)
        scale, shift = (self.w[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
        return ((groups - mean) / (var + 1e-6).sqrt()).reshape(x.shape) * scale + shift

    def swish(self, x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-x))

    def added(self, name: str, x: Tensor) -> Tensor:
        """What a residual block adds."""
        x = self.conv(f"{name}.conv1", self.swish(self.norm(f"{name}.norm1", x)), padding=1)
        return self.conv(f"{name}.conv2", self.swish(self.norm(f"{name}.norm2", x)), padding=1)

    def residual(self, name: str, x: Tensor) -> Tensor:
        shortcut = f"{name}.nin_shortcut"
        return self.added(name, x) + (self.conv(shortcut, x) if f"{shortcut}.weight" in self.w else x)

    def attention(self, name: str, x: Tensor) -> Tensor:
        normed = self.norm(f"{name}.norm", x)
        q, k, v = (self.conv(f"{name}.{part}", normed).flatten(2) for part in "qkv")
        weights = (torch.einsum("bci,bcj->bij", q, k) / x.shape[1] ** 0.5).exp()
        weights = weights / weights.sum(dim=2, keepdim=True)
        return x + self.conv(f"{name}.proj_out", torch.einsum("bij,bcj->bci", weights, v).view(x.shape))

    def halved(self, name: str, x: Tensor) -> Tensor:
        larger = x.new_zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1)
        larger[:, :, :-1, :-1] = x
        return self.conv(name, larger, stride=2)

    def doubled(self, name: str, x: Tensor) -> Tensor:
        return self.conv(name, x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), padding=1)


class TransformerLaws:
    """Of a public transformer, which a fixture ``loaded`` gives."""

    def example(self, net: Any) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(1)
        hidden = torch.rand(3, net.grid, net.grid, generator=draw) < 0.4
        hidden[-1] = False
        return torch.randint(net.codes, (3, net.grid, net.grid), generator=draw), hidden

    def test_hidden_tokens_have_no_influence_and_visible_ones_have(self, loaded: Any) -> None:
        tokens, hidden = self.example(loaded)
        logits, others = loaded(tokens, hidden), (tokens + 1) % loaded.codes
        assert torch.equal(loaded(torch.where(hidden, others, tokens), hidden), logits)
        assert not torch.allclose(loaded(torch.where(hidden, tokens, others), hidden), logits)

    def test_tiles_have_no_influence_on_each_other(self, loaded: Any) -> None:
        tokens, hidden = self.example(loaded)
        torch.testing.assert_close(loaded(tokens[1:2], hidden[1:2]), loaded(tokens, hidden)[1:2])

    def test_prediction_at_some_positions_equals_the_full_forward(self, loaded: Any) -> None:
        tokens, hidden = self.example(loaded)
        at = hidden.flatten(1) & (torch.arange(loaded.grid**2) % 3 > 0)
        for covered, some in ((hidden, at), (hidden & False, at), (hidden, hidden.flatten(1))):
            expected = loaded(tokens, covered).flatten(1, 2)[some]
            torch.testing.assert_close(loaded.predict(tokens, covered, some, Cache(), some), expected)

    def test_loss_and_its_gradient_by_the_slow_formula(self, loaded: Any) -> None:
        tokens, hidden = self.example(loaded)
        for smoothing, told in ((0.1, None), (0.0, 0.0), (0.3, 0.3)):
            logp, terms = loaded(tokens, hidden).log_softmax(dim=-1), []
            for tile, row, column in hidden.nonzero().tolist():
                target = torch.full((loaded.codes,), smoothing / loaded.codes)
                target[tokens[tile, row, column]] += 1 - smoothing
                terms.append(-(target * logp[tile, row, column]).sum())
            expected, loss = torch.stack(terms).mean(), loaded.loss(tokens, hidden, told)
            torch.testing.assert_close(loss, expected)
        weights = list(loaded.parameters())
        for one, other in zip(*(torch.autograd.grad(of, weights) for of in (expected, loss)), strict=True):
            assert one.any(), "training reaches every weight"
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

    def test_bf16_predicts_about_the_same_and_inpaints_hidden_tokens_alone(self, loaded: Any) -> None:
        tokens, hidden = self.example(loaded)
        rough, exact = copy.deepcopy(loaded).to(torch.bfloat16), loaded(tokens, hidden)
        assert rough(tokens, hidden).dtype == torch.bfloat16
        assert (rough(tokens, hidden).float() - exact).abs().mean() < 0.05 * exact.std()
        painted = inpaint(rough, tokens, hidden, rng(0, 1, 2), ViewsSettings(decoding_steps=3))
        assert torch.equal(painted[~hidden], tokens[~hidden])
        assert not torch.equal(painted, tokens)

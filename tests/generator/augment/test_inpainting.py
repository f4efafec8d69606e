"""In-painting: what it may not change, exact sampling by enumeration, and the fast loop against the plain one."""

import itertools
import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from gcl_custom.generator.augment import masks
from gcl_custom.generator.augment.inpainting import inpaint
from gcl_custom.generator.augment.packed_attention import Cache
from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.generator import MaskGITSettings as Settings
from gcl_custom.recipe.views import ViewsSettings

CODES, GRID = 13, 6


def randomness(tiles: int) -> Randomness:
    return Randomness(3, "views", 0, torch.arange(tiles))


def small(seed: int = 0) -> MaskGIT:
    torch.manual_seed(seed)
    model = MaskGIT(CODES, GRID, Settings(width=32, depth=3, heads=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


def example(tiles: int, probability: float = 0.4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randint(CODES, (tiles, GRID, GRID)), torch.rand(tiles, GRID, GRID) < probability


class Joint:
    """A known distribution of a 2x2 grid, whose exact conditionals are the predictions."""

    def __init__(self, codes: int) -> None:
        torch.manual_seed(5)
        self.codes = codes
        self.outcomes = torch.tensor(list(itertools.product(range(codes), repeat=4)))
        self.p = torch.rand(len(self.outcomes), dtype=torch.float64) ** 3
        self.p /= self.p.sum()
        self.calls = 0

    def predict(
        self, tokens: Tensor, hidden: Tensor, at: Tensor, cache: Cache, changed: Tensor | None = None
    ) -> Tensor:
        self.calls += 1
        agree = (self.outcomes[None] == tokens.flatten(1)[:, None]) | hidden.flatten(1)[:, None]
        weight = agree.all(dim=2) * self.p
        ones = torch.nn.functional.one_hot(self.outcomes, self.codes).double()
        marginal = torch.einsum("bo,opv->bpv", weight, ones)
        return (marginal / marginal.sum(dim=2, keepdim=True)).log()[at].float()


@pytest.mark.parametrize("codes", [2, 3])
def test_one_token_a_step_draws_from_the_exact_joint(codes: int) -> None:
    model, tiles = Joint(codes), 20_000
    settings = ViewsSettings(decoding_steps=4, order="halton")
    tokens = torch.zeros(tiles, 2, 2, dtype=torch.long)
    drawn = inpaint(model, tokens, torch.ones(tiles, 2, 2, dtype=torch.bool), randomness(tiles), settings)
    assert model.calls == 4
    place = (drawn.flatten(1) * codes ** torch.arange(3, -1, -1)).sum(dim=1)
    observed = torch.bincount(place, minlength=codes**4).double()
    expected = model.p * tiles
    rare = expected < 5  # lumped together, as the chi-square test wants
    bins = [(observed[~rare], expected[~rare]), (observed[rare].sum()[None], expected[rare].sum()[None])]
    observed, expected = (torch.cat(column) for column in zip(*bins, strict=True))
    kept = expected > 0
    assert stats.chisquare(observed[kept], expected[kept]).pvalue > 0.01


def test_one_visible_token_conditions_the_others() -> None:
    model, tiles = Joint(2), 20_000
    tokens = torch.zeros(tiles, 2, 2, dtype=torch.long)
    tokens[:, 0, 1] = 1
    hidden = torch.ones(tiles, 2, 2, dtype=torch.bool)
    hidden[:, 0, 1] = False
    drawn = inpaint(model, tokens, hidden, randomness(tiles), ViewsSettings(decoding_steps=3, order="halton")).flatten(
        1
    )
    given = model.p * (model.outcomes[:, 1] == 1)
    for position in (0, 2, 3):
        expected = (given * model.outcomes[:, position]).sum() / given.sum()
        error = math.sqrt(expected * (1 - expected) / tiles)
        assert drawn[:, position].double().mean().item() == pytest.approx(expected.item(), abs=4 * error)


@pytest.mark.parametrize(
    "settings", [ViewsSettings(), ViewsSettings(order="halton", refresh=0), ViewsSettings(refresh=1, decoding_steps=3)]
)
def test_a_visible_token_never_changes(settings: ViewsSettings) -> None:
    tokens, hidden = example(8)
    hidden[0] = False
    hidden[1] = True
    kept_tokens, kept_hidden = tokens.clone(), hidden.clone()
    painted = inpaint(small(), tokens, hidden, randomness(8), settings)
    assert torch.equal(painted[~hidden], tokens[~hidden])
    assert not torch.equal(painted, tokens)
    assert painted.min() >= 0
    assert painted.max() < CODES
    assert torch.equal(tokens, kept_tokens), "arguments are left alone"
    assert torch.equal(hidden, kept_hidden)


def plain_loop(model: MaskGIT, tokens: Tensor, hidden: Tensor, rng: Randomness, settings: ViewsSettings) -> Tensor:
    """Parallel decoding as in the paper, one tile at a time and everything computed in each step."""
    n, result = GRID * GRID, tokens.clone()
    turn = {position: number for number, position in enumerate(masks.halton_order(GRID, GRID).tolist())}
    for tile in range(len(tokens)):
        shown, covered = tokens[tile].clone(), hidden[tile].clone()
        initially = int(covered.sum())
        for step in range(settings.decoding_steps):
            if not covered.any():
                break
            with torch.no_grad():
                logits = model(shown[None], covered[None])[0] / settings.sampling_temperature
            p = logits.softmax(dim=-1).view(n, -1)
            token_u, noise_u = (rng.uniform(f"{name} {step}", n)[tile] for name in ("token", "noise"))
            drawn = [int((p[i].cumsum(0) <= token_u[i] * p[i].sum()).sum()) for i in range(n)]
            heat = settings.temperature * (1 - (step + 1) / settings.decoding_steps)
            score = [math.log(p[i, drawn[i]]) - heat * math.log(-math.log(max(noise_u[i], 1e-8))) for i in range(n)]
            if settings.order == "halton":
                roll = int(rng.uniform("roll", 1)[tile, 0] * n)
                score = [-((turn[i] - roll) % n) for i in range(n)]
            candidates = sorted(covered.flatten().nonzero().flatten().tolist(), key=lambda i: -score[i])
            left = math.floor(initially * math.cos(math.pi / 2 * (step + 1) / settings.decoding_steps))
            left = min(left, len(candidates) - 1) if step + 1 < settings.decoding_steps else 0
            for i in candidates[: len(candidates) - left]:
                shown.view(-1)[i] = drawn[i]
                covered.view(-1)[i] = False
        result[tile] = shown
    return result


@pytest.mark.parametrize(
    "settings",
    [
        ViewsSettings(temperature=0.0),
        ViewsSettings(temperature=2.0, sampling_temperature=0.8),
        ViewsSettings(order="halton"),
    ],
)
def test_with_refresh_at_every_step_it_equals_the_plain_loop(settings: ViewsSettings) -> None:
    model, (tokens, hidden) = small(), example(5)
    settings = settings.model_copy(update={"decoding_steps": 6, "refresh": 1})
    fast = inpaint(model, tokens, hidden, randomness(5), settings)
    assert torch.equal(fast, plain_loop(model, tokens, hidden, randomness(5), settings))


def test_the_cache_is_an_approximation_that_mostly_agrees() -> None:
    model, (tokens, hidden) = small(), example(16)
    exact = inpaint(model, tokens, hidden, randomness(16), ViewsSettings(refresh=1))
    cached = inpaint(model, tokens, hidden, randomness(16), ViewsSettings(refresh=4))
    once = inpaint(model, tokens, hidden, randomness(16), ViewsSettings(refresh=0))
    agreement = [(other == exact)[hidden].float().mean().item() for other in (cached, once)]
    chance = (exact[:-1] == exact[1:])[hidden[1:]].float().mean().item()
    assert min(agreement) > chance + 0.3


@pytest.mark.parametrize("settings", [ViewsSettings(), ViewsSettings(refresh=4), ViewsSettings(order="halton")])
def test_a_tile_is_inpainted_alike_in_any_batch(settings: ViewsSettings) -> None:
    model, (tokens, hidden) = small(), example(6)
    hidden[0], hidden[2] = True, False
    whole = inpaint(model, tokens, hidden, randomness(6), settings)
    some = torch.tensor([4, 1])
    rng = Randomness(3, "views", 0, some)
    assert torch.equal(inpaint(model, tokens[some], hidden[some], rng, settings), whole[some])


class Counting(Joint):
    """Records how many tokens of the first tile are hidden at each call."""

    def __init__(self) -> None:
        super().__init__(2)
        self.seen: list[list[int]] = []
        self.asked: list[list[int]] = []

    def predict(
        self, tokens: Tensor, hidden: Tensor, at: Tensor, cache: Cache, changed: Tensor | None = None
    ) -> Tensor:
        self.seen.append(hidden.flatten(1).sum(dim=1).tolist())
        self.asked.append(at.sum(dim=1).tolist())
        return torch.zeros(int(at.sum()), 2)


def test_each_tile_follows_the_cosine_on_its_own_count() -> None:
    model = Counting()
    hidden = torch.zeros(3, 16, 16, dtype=torch.bool)
    for tile, count in enumerate((256, 64, 2)):
        hidden[tile].view(-1)[:count] = True
    inpaint(model, torch.zeros(3, 16, 16, dtype=torch.long), hidden, randomness(3), ViewsSettings())
    cosines = [math.cos(math.pi / 2 * step / 12) for step in range(12)]
    assert [seen[0] for seen in model.seen] == [math.floor(256 * c) for c in cosines]
    assert [seen[1] for seen in model.seen] == [math.floor(64 * c) for c in cosines]
    assert [seen[2] for seen in model.seen] == [2, 1] + [0] * 10


def test_halton_order_predicts_each_token_once_and_confidence_all_that_are_hidden() -> None:
    tokens, hidden = example(3)
    models = {order: Counting() for order in ("halton", "confidence")}
    for order, model in models.items():
        inpaint(model, tokens, hidden, randomness(3), ViewsSettings(order=order))
    assert models["confidence"].asked == models["confidence"].seen == models["halton"].seen
    assert torch.tensor(models["halton"].asked).sum(dim=0).tolist() == hidden.flatten(1).sum(dim=1).tolist()


class Fixed:
    """Predicts each position by itself, whatever the others hold, and keeps what it computed, like an own MaskGIT."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.asked: list[list[int]] = []

    def predict(
        self, tokens: Tensor, hidden: Tensor, at: Tensor, cache: Cache, changed: Tensor | None = None
    ) -> Tensor:
        if changed is None:
            cache.pairs = [torch.zeros(1)]
        self.asked.append(at.sum(dim=1).tolist())
        return self.logits[at]


def test_where_tokens_do_not_depend_on_each_other_candidates_are_all_that_can_be_kept() -> None:
    """A candidate's new prediction is then the old one. So what would be kept of all hidden tokens is among them."""
    tokens, hidden = example(5)
    logits = torch.randn(5, GRID * GRID, CODES, generator=torch.Generator().manual_seed(2))
    all_of_them, candidates = Fixed(logits), Fixed(logits)
    exact = inpaint(all_of_them, tokens, hidden, randomness(5), ViewsSettings(refresh=1))
    assert torch.equal(inpaint(candidates, tokens, hidden, randomness(5), ViewsSettings()), exact)
    count = hidden.flatten(1).sum(dim=1)
    initially = count.clone()
    for step in range(12):
        quota = count - masks.still_hidden(initially, count, step, 12)
        assert all_of_them.asked[step] == count.tolist()
        assert candidates.asked[step] == (torch.minimum(2 * quota, count) if step else count).tolist()
        count = count - quota


def test_halton_order_decides_in_the_order_of_the_sequence() -> None:
    decided: list[int] = []

    class Watching(Counting):
        def predict(
            self, tokens: Tensor, hidden: Tensor, at: Tensor, cache: Cache, changed: Tensor | None = None
        ) -> Tensor:
            decided.extend(i for i in (~hidden[0]).flatten().nonzero().flatten().tolist() if i not in decided)
            return super().predict(tokens, hidden, at, cache, changed)

    tokens, hidden = torch.zeros(1, 2, 2, dtype=torch.long), torch.ones(1, 2, 2, dtype=torch.bool)
    inpaint(Watching(), tokens, hidden, randomness(1), ViewsSettings(decoding_steps=4, order="halton"))
    order = masks.halton_order(2, 2).tolist()
    start = order.index(decided[0])
    assert decided == (order[start:] + order[:start])[:3]


def test_the_most_confident_are_kept() -> None:
    class Sure:
        """Certain of code 1 at the first two positions, undecided between 0 and 2 at the others."""

        def predict(
            self, tokens: Tensor, hidden: Tensor, at: Tensor, cache: Cache, changed: Tensor | None = None
        ) -> Tensor:
            if not hidden.all():
                assert hidden.flatten(1).tolist() == [[False, False, True, True]]
            certain = (torch.arange(4).expand_as(at)[at] < 2)[:, None]
            return torch.where(certain, torch.tensor([-99.0, 9, -99]), torch.tensor([0.0, -99, 0]))

    hidden = torch.ones(1, 2, 2, dtype=torch.bool)
    settings = ViewsSettings(decoding_steps=2, temperature=0.0)
    painted = inpaint(Sure(), torch.zeros(1, 2, 2, dtype=torch.long), hidden, randomness(1), settings)
    assert painted.flatten()[:2].tolist() == [1, 1]
    assert 1 not in painted.flatten()[2:].tolist()

"""LeJEPA against lightly's loss and the closed form of its integral; its directions."""

import copy
import math

import numpy as np
import pytest
import torch
from jaxtyping import Float
from lightly.loss.lejepa_loss import LeJEPALoss
from torch import Tensor, nn

from gcl_custom.methods.lejepa import LeJEPA, epps_pulley
from gcl_custom.recipe.methods import LeJEPASettings


def made(**changes: object) -> LeJEPA:
    torch.manual_seed(0)
    method = LeJEPA(nn.Identity(), 6, LeJEPASettings(name="lejepa", projector=[6], slices=50, **changes))  # type: ignore[arg-type]
    method.projector = nn.Sequential(nn.Identity())
    return method


def closed_form(x: Float[Tensor, " n"]) -> float:
    """The integral over all t, which is a sum over pairs (Baringhaus and Henze, Metrika 1988)."""
    x, n = x.double(), len(x)
    between = torch.exp(-((x[:, None] - x) ** 2) / 2).sum() / n
    to_normal = math.sqrt(2) * torch.exp(-(x**2) / 4).sum()
    return math.sqrt(2 * math.pi) * float(between - to_normal + n / math.sqrt(3))


def beyond(x: Float[Tensor, " n"], start: float) -> float:
    """The part of the integral with |t| above a start, in small steps."""
    t = np.linspace(start, 12, 4000)
    seen = np.exp(1j * np.outer(t, x.double().numpy())).mean(axis=1)
    return 2 * len(x) * float(np.trapezoid(np.abs(seen - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2), t))


SAMPLES = {
    "normal": lambda: torch.randn(300),
    "shifted": lambda: torch.randn(300) + 1,
    "narrow": lambda: 0.1 * torch.randn(300),
    "wide": lambda: 3 * torch.randn(300),
    "two peaks": lambda: torch.cat([torch.full((150,), 1.0), torch.full((150,), -1.0)]),
    "collapsed": lambda: torch.zeros(300),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_statistic_is_the_closed_form_less_what_lies_beyond_3(kind: str) -> None:
    torch.manual_seed(0)
    x = SAMPLES[kind]()
    assert beyond(x, 0.0) == pytest.approx(closed_form(x), rel=1e-4)
    assert float(epps_pulley(x[:, None])) == pytest.approx(closed_form(x) - beyond(x, 3.0), rel=5e-3)


@pytest.mark.parametrize("n", [20, 200])
def test_normal_samples_have_the_same_mean_whatever_their_number(n: int) -> None:
    torch.manual_seed(0)
    found = epps_pulley(torch.randn(n, 4000))
    assert float(found.mean()) == pytest.approx(math.sqrt(2 * math.pi) * (1 - 3**-0.5), rel=0.03)


@pytest.mark.parametrize("small", [1, 3])
def test_the_loss_is_lightlys_with_its_gradient(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    method = made(regularisation=0.3)
    views = [torch.randn(9, 6).requires_grad_() for _ in range(2 + small)]
    directions = copy.deepcopy(method)._directions(torch.stack(views))
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(50))
    theirs = LeJEPALoss(lambda_param=0.3)
    monkeypatch.setattr(theirs.sigreg, "_generate_unit_vectors", lambda *_: directions.T)
    ours = torch.stack(list(method(views, [], 0.0).values())).sum()
    expected = theirs(global_proj=torch.stack(views[:2]), local_proj=torch.stack(views[2:]))
    torch.testing.assert_close(ours, expected)
    gradients = (torch.autograd.grad(loss, views) for loss in (ours, expected))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_no_gradient_is_stopped_and_collapse_costs_more_than_normal_projections() -> None:
    method = made()
    same = torch.randn(64, 6)
    assert method([same, same], [], 0.0)["prediction"] == 0
    collapsed, normal = (method([z, z], [], 0.0)["sigreg"] for z in (torch.zeros(64, 6), same))
    assert float(collapsed) > 10 * float(normal)
    one, other = torch.zeros(4, 6, requires_grad=True), torch.ones(4, 6, requires_grad=True)
    gradients = torch.autograd.grad(method([one, other], [], 0.0)["prediction"], [one, other])
    torch.testing.assert_close(gradients[0], -gradients[1])
    assert gradients[0].all()


def test_each_step_has_directions_of_its_own_that_the_state_determines() -> None:
    method, z = made(), torch.zeros(2, 1, 6)
    state = copy.deepcopy(method.state_dict())
    first, second = method._directions(z), method._directions(z)
    assert not torch.isclose(first[:, None], second).all(dim=2).any()
    other = made()
    other.drawn += 12345
    other.load_state_dict(state)
    torch.testing.assert_close(torch.cat([other._directions(z), other._directions(z)]), torch.cat([first, second]))
    before = method.eval().drawn.clone()
    method._directions(z)
    assert method.drawn == before, "outside of training nothing is remembered"


def test_seeds_have_directions_of_their_own() -> None:
    drawn = set()
    for seed in range(20):
        torch.manual_seed(seed)
        drawn.add(int(LeJEPA(nn.Identity(), 6, LeJEPASettings(name="lejepa", projector=[6])).drawn))
    assert len(drawn) == 20


def test_directions_are_spread_evenly() -> None:
    directions = LeJEPA(nn.Identity(), 6, LeJEPASettings(name="lejepa", projector=[6], slices=20_000))._directions(
        torch.zeros(1, 1, 6)
    )
    torch.testing.assert_close(directions.mean(0), torch.zeros(6), rtol=0, atol=0.02)
    torch.testing.assert_close(directions.T @ directions / 20_000, torch.eye(6) / 6, rtol=0, atol=0.01)

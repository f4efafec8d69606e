"""Small crops beside the large views: the pairs that are compared, and that nothing changes without them."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from gcl_custom.methods import barlow_twins, byol, simclr, vicreg
from gcl_custom.methods.by_name import METHODS
from gcl_custom.methods.method import Method
from gcl_custom.methods.multi_crop import over_pairs, over_views
from gcl_custom.recipe.methods import BarlowTwinsSettings, ByolSettings, SimCLRSettings, VICRegSettings
from gcl_custom.recipe.section import Section

SETTINGS: dict[str, Section] = {
    "vicreg": VICRegSettings(projector=[10, 6]),
    "barlow_twins": BarlowTwinsSettings(name="barlow_twins", projector=[10, 6]),
    "simclr": SimCLRSettings(name="simclr", projector=[10, 6]),
    "byol": ByolSettings(name="byol", projector=[10, 6]),
}


def made(name: str, views: int) -> tuple[Method, list[Tensor], list[Tensor]]:
    """The method, and representations of views of 9 tiles."""
    torch.manual_seed(0)
    method = METHODS[name](nn.Linear(8, 12), 12, SETTINGS[name])
    seen = [torch.randn(9, 12).requires_grad_() for _ in range(views)]
    return method, seen, [torch.randn(9, 8) for _ in range(views)]


def of_two_views(method: Method, seen: Sequence[Tensor], views: Sequence[Tensor]) -> list[Tensor]:
    """The terms as the papers have them, without small crops."""
    z, other = (method.projector(representation) for representation in seen)
    match method:
        case vicreg.VICReg(settings=settings):
            return [
                settings.invariance * vicreg.invariance(z, other),
                settings.variance * (vicreg.variance(z) + vicreg.variance(other)) / 2,
                settings.covariance * (vicreg.covariance(z) + vicreg.covariance(other)),
            ]
        case barlow_twins.BarlowTwins(settings=settings):
            on, off = barlow_twins.cross_correlation(barlow_twins.standardised(z), barlow_twins.standardised(other))
            return [on, settings.redundancy * off]
        case simclr.SimCLR(settings=settings):
            return [simclr.nt_xent(z, other, settings.temperature)]
        case byol.BYOL():
            wanted, of_other = (method.teacher.net(view) for view in views)
            q, of_q = method.predictor(z), method.predictor(other)
            return [byol.distance(q, of_other) + byol.distance(of_q, wanted)]
    raise AssertionError


@pytest.mark.parametrize("name", SETTINGS)
def test_without_small_crops_losses_and_gradients_are_those_of_two_views_to_the_last_bit(name: str) -> None:
    method, seen, views = made(name, 2)
    found, wanted = list(method(seen, views, 0.5).values()), of_two_views(method, seen, views)
    assert all(map(torch.equal, found, wanted))
    gradients = (torch.autograd.grad(sum(terms), seen) for terms in (found, wanted))
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("name", ["barlow_twins", "simclr"])
def test_the_loss_is_the_mean_over_pairs_of_a_large_view_and_another(name: str) -> None:
    method, seen, views = made(name, 5)
    method.eval()  # so that no pass changes a statistic
    pairs = [(t, s) for t in range(2) for s in range(5) if s != t]
    each = [list(method([seen[t], seen[s]], [views[t], views[s]], 0.5).values()) for t, s in pairs]
    for place, found in enumerate(method(seen, views, 0.5).values()):
        torch.testing.assert_close(found, torch.stack([terms[place] for terms in each]).mean())


def test_vicreg_compares_pairs_and_keeps_each_view_from_collapsing() -> None:
    method, seen, views = made("vicreg", 5)
    z = [method.eval().projector(representation) for representation in seen]
    found = method(seen, views, 0.5)
    pairs = [vicreg.invariance(z[t], z[s]) for t in range(2) for s in range(5) if s != t]
    torch.testing.assert_close(found["invariance"], 25 * torch.stack(pairs).mean())
    torch.testing.assert_close(found["variance"], 25 * torch.stack([vicreg.variance(view) for view in z]).mean())
    torch.testing.assert_close(found["covariance"], 2 * torch.stack([vicreg.covariance(view) for view in z]).mean())


def test_byol_predicts_each_large_view_from_every_other_and_shows_its_teacher_no_small_crop() -> None:
    method, seen, views = made("byol", 4)
    method.eval()
    wanted = [method.teacher.net(view) for view in views[:2]]
    predicted = [method.predictor(method.projector(representation)) for representation in seen]
    pairs = [byol.distance(predicted[s], wanted[t]) for t in range(2) for s in range(4) if s != t]
    shown: list[Tensor] = []
    method.teacher.net.register_forward_hook(lambda *given: shown.append(given[1][0]))
    torch.testing.assert_close(method(seen, views, 0.5)["prediction"], 2 * torch.stack(pairs).mean())
    assert len(shown) == 2
    assert all(map(torch.equal, shown, views[:2]))


def test_small_crops_are_not_compared_with_each_other() -> None:
    large, small = list(torch.eye(2)[:, None]), [torch.full((1, 2), 7.0), torch.full((1, 2), 9.0)]
    asked: list[tuple[float, float]] = []

    def loss(one: Tensor, other: Tensor) -> Tensor:
        asked.append((float(one.max()), float(other.max())))
        return other.max()

    assert over_pairs(loss, [*large, *small]) == (2 * 1 + 2 * 7 + 2 * 9) / 6
    assert sorted(asked) == [(1, 1), (1, 7), (1, 7), (1, 9), (1, 9)]


def test_all_views_count_alike() -> None:
    assert over_views(torch.mean, [torch.full((2, 2), value) for value in (1.0, 2.0, 6.0)]) == 3

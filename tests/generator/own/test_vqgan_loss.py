"""Known answers of the VQGAN's losses."""

import pytest
import torch
import torch.nn.functional as F
from feature_tiles import network, tiles
from torch import Tensor, nn

from gcl_custom.generator.own.vqgan_loss import (
    ADAPTIVE_MOST,
    Adversary,
    Discriminator,
    Reconstruction,
    adversarial_gradient,
    hinge,
    lecam,
)
from gcl_custom.measures.feature_networks import SEEN_AT_PX
from gcl_custom.measures.similarity import feature_map_distance, structure_distance


def test_hinge_of_known_logits() -> None:
    assert hinge(torch.zeros(4), torch.zeros(4)) == 1
    assert hinge(torch.full((4,), 2.0), torch.full((4,), -2.0)) == 0
    assert hinge(torch.tensor([0.5]), torch.tensor([1.0])) == pytest.approx((0.5 + 2.0) / 2)


def test_lecam_of_known_logits() -> None:
    value = lecam(torch.tensor([2.0, -1.0]), torch.tensor([-1.0]), torch.tensor(0.5), torch.tensor(-0.5))
    assert value == pytest.approx((2.5**2 + 0.0) / 2 + 1.5**2)


def test_the_running_means_of_the_logits_follow_them_slowly() -> None:
    adversary = Adversary(3, lecam=0.0, channels=32, decay=0.9)
    real, fake = tiles(0), tiles(1)
    judged = adversary(real, fake)
    logits_real, logits_fake = adversary.discriminator(real), adversary.discriminator(fake)
    torch.testing.assert_close(adversary.mean_real, 0.1 * logits_real.mean())
    torch.testing.assert_close(adversary.mean_fake, 0.1 * logits_fake.mean())
    torch.testing.assert_close(judged.discriminator, hinge(logits_real, logits_fake))
    torch.testing.assert_close(judged.generator, -logits_fake.mean())


def test_a_discriminator_is_trusted_as_far_as_it_tells() -> None:
    class Brightness(nn.Module):
        def forward(self, tiles: Tensor) -> Tensor:
            return tiles.mean((2, 3), keepdim=True)

    adversary = Adversary(1, lecam=0.0, channels=32)
    adversary.discriminator = Brightness()

    def trust(real: float, fake: float) -> float:
        return adversary(torch.full((2, 1, 8, 8), real), torch.full((2, 1, 8, 8), fake)).trust.item()

    assert trust(0.0, 0.0) == 0
    assert trust(1.0, -1.0) == 1
    assert trust(0.5, -0.5) == 0.5
    assert trust(-1.0, 1.0) == 0, "a discriminator that is wrong must not turn the gradient round"


def test_the_adversary_has_the_channels_that_it_is_given() -> None:
    adversary = Adversary(3, lecam=0.0, channels=24)
    outputs = [part.out_channels for part in adversary.discriminator.layers if isinstance(part, nn.Conv2d)]
    assert outputs == [24, 48, 96, 1]


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_the_discriminator_gives_a_logit_for_each_square(bands: int) -> None:
    assert Discriminator(bands, 32)(tiles(0, bands)).shape == (2, 1, 4, 4)


def test_a_tiles_logits_depend_on_that_tile_alone() -> None:
    discriminator = Discriminator(3, 32)
    torch.testing.assert_close(discriminator(tiles(0))[1:], discriminator(tiles(0)[1:]))


def test_of_small_tiles_the_network_sees_enlarged_ones_of_no_more_pixels_in_all() -> None:
    net, a, b = network(), torch.rand(8, 3, 64, 64), torch.rand(8, 3, 64, 64)
    _, terms = Reconstruction(1.0, net)(a, b)
    first_two = feature_map_distance(net, F.interpolate(a[:2], scale_factor=2.0, mode="bilinear"),
                                     F.interpolate(b[:2], scale_factor=2.0, mode="bilinear"))  # fmt: skip
    torch.testing.assert_close(terms["perceptual"], first_two)


@pytest.mark.parametrize("bands", [1, 2, 4, 13])
def test_the_perceptual_distance_of_other_bands_than_three(bands: int) -> None:
    loss, _ = Reconstruction(1.0, network())(tiles(0, bands), tiles(1, bands))
    assert loss.isfinite()


def decoder() -> tuple[Tensor, nn.Conv2d]:
    torch.manual_seed(0)
    last = nn.Conv2d(4, 3, 1)
    return last(torch.randn(2, 4, 8, 8)), last


def test_the_adaptive_weight_is_that_of_the_papers_formula() -> None:
    """Eq. 7 by its definition: gradients of the two losses at the last layer."""
    pixels, last = decoder()
    target = torch.rand_like(pixels)

    def reconstruction(p: Tensor) -> Tensor:
        return (p - target).abs().mean()

    def adversarial(p: Tensor) -> Tensor:
        return -(p**3).mean()

    norms = [
        torch.autograd.grad(loss(pixels), last.weight, retain_graph=True)[0].norm()
        for loss in (reconstruction, adversarial)
    ]
    expected = norms[0] / (norms[1] + 1e-4)
    (whole,) = torch.autograd.grad(
        reconstruction(pixels) + 0.5 * expected * adversarial(pixels), last.weight, retain_graph=True
    )

    leaf = pixels.detach().requires_grad_()
    (first,), (second,) = torch.autograd.grad(reconstruction(leaf), leaf), torch.autograd.grad(adversarial(leaf), leaf)
    joined = adversarial_gradient(pixels, first, second, last.weight, 0.5)
    torch.testing.assert_close(joined.adaptive, expected)
    (pixels * joined.gradient).sum().backward()
    torch.testing.assert_close(last.weight.grad, whole)


def test_the_adaptive_weight_is_bounded_where_the_adversary_is_flat() -> None:
    pixels, last = decoder()
    joined = adversarial_gradient(pixels, torch.full_like(pixels, 1e6), torch.zeros_like(pixels), last.weight, 1.0)
    assert joined.adaptive == ADAPTIVE_MOST


def test_reconstruction_is_l1_and_the_weighted_perceptual_distance() -> None:
    net, a, b = network(), tiles(0, side=SEEN_AT_PX), tiles(1, side=SEEN_AT_PX)
    loss, terms = Reconstruction(0.3, net)(a, b)
    torch.testing.assert_close(terms["l1"], (a - b).abs().mean())
    torch.testing.assert_close(loss, terms["l1"] + 0.3 * feature_map_distance(net, a, b))
    loss, terms = Reconstruction(0.3, None)(a, b)
    torch.testing.assert_close(loss, terms["l1"] + 0.3 * structure_distance(a, b))

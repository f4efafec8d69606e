"""Laws of our own VQGAN as a generator with a continuous latent."""

from functools import partial

import pytest
import torch
from families import rng
from torch import Tensor

from gcl_custom.generator.augment.latent_edits import Edited, LatentGenerator, noise
from gcl_custom.generator.augment.navigator import Navigator
from gcl_custom.generator.augment.steering import Steering
from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.generator.vqgan_latent import VqganLatent
from gcl_custom.recipe.generator import TokenizerSettings

SOME = torch.rand(8, 4, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vqgan() -> VQGAN:
    torch.manual_seed(0)
    net = VQGAN(4, TokenizerSettings(channels=16, blocks=1, codes=32, code_width=5, pixels_per_token=8))
    net.train()(SOME)  # the codebook starts at features
    return net


def test_decodes_the_nearest_codes(vqgan: VQGAN) -> None:
    latent = VqganLatent(vqgan, SOME, torch.device("cpu"))
    assert isinstance(latent, LatentGenerator)
    tokens = vqgan.eval().tokenise(SOME)
    torch.testing.assert_close(latent.decode(latent.encode(SOME, rng(*range(8)))), vqgan.decode_tokens(tokens))


def test_moments_are_those_of_each_channel(vqgan: VQGAN) -> None:
    latent = VqganLatent(vqgan, SOME, torch.device("cpu"))
    features = vqgan.eval().encode(SOME).detach()
    for channel in range(5):
        assert latent.mean[channel].item() == pytest.approx(features[:, channel].mean().item(), abs=1e-5)
        assert latent.deviation[channel].item() == pytest.approx(features[:, channel].std().item(), rel=1e-4)


def test_a_dead_channel_leaves_every_latent_finite(vqgan: VQGAN, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = VQGAN.encode

    def dead(net: VQGAN, tiles: Tensor) -> Tensor:
        return whole(net, tiles) * torch.tensor([0.0, 1, 1, 1, 1])[:, None, None]

    monkeypatch.setattr(VQGAN, "encode", dead)
    latent = VqganLatent(vqgan, SOME, torch.device("cpu"))
    navigator = Navigator((5, 4, 4), latent.mean, latent.deviation, hidden=8)
    features = latent.encode(SOME, rng(*range(8)))
    moved = navigator.apply_to(features, rng(*range(8)), strength=1.0)
    assert moved.isfinite().all()
    assert (moved - features)[:, 1:].abs().mean() > 0.01
    assert (moved - features)[:, 0].abs().max() < 1e-4


def test_every_edit_at_strength_0_gives_the_reconstruction(vqgan: VQGAN) -> None:
    latent = VqganLatent(vqgan, SOME, torch.device("cpu"))
    navigator = Navigator((5, 4, 4), latent.mean, latent.deviation, hidden=8)
    edits = [
        partial(noise, mean=latent.mean, deviation=latent.deviation),
        *(Steering(kind, (5, 4, 4)).apply_to for kind in ("brightness", "shift", "zoom")),
        navigator.apply_to,
    ]
    reconstructed = latent.decode(latent.encode(SOME, rng(*range(8))))
    for edit in edits:
        edited = Edited(latent, partial(edit, strength=0.0))
        features = edited.encode(SOME, rng(*range(8)))
        torch.testing.assert_close(edited.decode(edited.augment(features, rng(*range(8)))), reconstructed)
    moved = Edited(latent, partial(navigator.apply_to, strength=1.0))
    assert not torch.allclose(moved.decode(moved.augment(features, rng(*range(8)))), reconstructed)


def test_a_gradient_passes_the_quantizer_and_no_weight_keeps_one(vqgan: VQGAN) -> None:
    latent = VqganLatent(vqgan, SOME, torch.device("cpu"))
    features = latent.vqgan.encode(SOME[:2]).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(latent.render(features).sum(), features)
    assert gradient.abs().flatten(1).sum(1).min() > 0
    assert not any(parameter.requires_grad for parameter in latent.vqgan.parameters())
    assert all(parameter.requires_grad for parameter in vqgan.parameters())  # a copy was frozen

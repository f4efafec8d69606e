"""Laws of the VQGAN."""

import pytest
import torch

from gcl_custom.generator.own.vqgan import VQGAN, ResidualBlock
from gcl_custom.recipe.generator import TokenizerSettings


def small(bands: int = 3, **settings: object) -> VQGAN:
    torch.manual_seed(0)
    return VQGAN(bands, TokenizerSettings(**{"channels": 16, "blocks": 1, "codes": 32, "code_width": 4, **settings}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("bands", "pixels_per_token"), [(3, 2), (1, 4), (3, 8), (5, 8), (13, 16)])
def test_any_number_of_bands_and_every_token_size(bands: int, pixels_per_token: int) -> None:
    net = small(bands, pixels_per_token=pixels_per_token).eval()
    tiles = torch.rand(2, bands, 32, 48)
    tokens = net.tokenise(tiles)
    assert tokens.shape == (2, 32 // pixels_per_token, 48 // pixels_per_token)
    reconstructed = net.decode_tokens(tokens)
    assert reconstructed.shape == tiles.shape
    assert reconstructed.dtype == torch.float32
    assert reconstructed.min() >= 0
    assert reconstructed.max() <= 1


def test_tokens_say_all_that_the_decoder_sees() -> None:
    net = small().eval()
    tiles = torch.rand(2, 3, 32, 32)
    reconstructed, quantised = net(tiles)
    assert torch.equal(quantised.tokens, net.tokenise(tiles))
    torch.testing.assert_close(reconstructed, net.decode_tokens(quantised.tokens))


def test_a_tile_is_coded_alone() -> None:
    """In evaluation nothing of a tile depends on the others in its batch."""
    net = small().eval()
    tiles = torch.rand(4, 3, 32, 32)
    together = net.encode(tiles)
    torch.testing.assert_close(together[2:3], net.encode(tiles[2:3]))


def test_a_block_starts_as_the_identity() -> None:
    block = ResidualBlock(16)
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(block(x), x + block.leave.bias[:, None, None])


def test_every_weight_learns() -> None:
    net = small().train()
    reconstructed, quantised = net(torch.rand(4, 3, 32, 32))
    for block in net.modules():
        if isinstance(block, ResidualBlock):  # at its start a block passes no gradient to its first half
            torch.nn.init.normal_(block.leave.weight)
    reconstructed, quantised = net(torch.rand(4, 3, 32, 32))
    (reconstructed.square().mean() + quantised.loss).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_pixels_are_not_cut_off_in_training_only() -> None:
    net = small()
    net.head.bias.data.fill_(5.0)
    features = torch.zeros(1, 4, 2, 2)
    assert net.train().decode(features).min() > 1
    assert net.eval().decode(features).max() == 1


def test_a_neighbouring_square_reaches_over_the_border_of_its_token() -> None:
    """Otherwise borders between squares would show."""
    net = small().eval()
    for block in net.decoder:
        if isinstance(block, ResidualBlock):
            torch.nn.init.normal_(block.leave.weight)
    features = torch.zeros(1, 4, 4, 4)
    changed = features.clone()
    changed[..., 1, 1] = 1.0
    difference = (net.decode(changed) - net.decode(features)).abs().amax((0, 1))
    assert (difference[8:16, 8:16] > 0).any()
    assert (difference[8:16, 16:18] > 0).any()


def test_it_learns_to_reconstruct_a_few_tiles() -> None:
    net = small(codes=64).train()
    tiles = torch.rand(8, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    errors = []
    for _ in range(120):
        reconstructed, quantised = net(tiles)
        error = (reconstructed - tiles).square().mean()
        optimizer.zero_grad()
        (error + quantised.loss).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.1 * errors[0]

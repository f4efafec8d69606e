"""Tiles to tokens to views, by own networks that were never trained."""

import pytest
import torch

from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.generator.token_generator import FEATHER, TokenGenerator, feathered
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.generator import MaskGITSettings as Settings
from gcl_custom.recipe.generator import TokenizerSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.views import ViewsSettings

GRID = 4


def made(**views: object) -> TokenGenerator:
    torch.manual_seed(0)
    tokenizer = VQGAN(3, TokenizerSettings(codes=20, code_width=4, channels=16, blocks=1))
    maskgit = MaskGIT(20, GRID, Settings(width=32, depth=2, heads=2))
    hardware = HardwareSettings(precision="fp32")
    return TokenGenerator(tokenizer, maskgit, ViewsSettings.model_validate(views), hardware, torch.device("cpu"))


def randomness(tiles: int) -> Randomness:
    return Randomness(0, "views", 0, torch.arange(tiles))


def test_from_tiles_to_tokens_to_tiles() -> None:
    generator, tiles = made(), torch.rand(2, 3, 8 * GRID, 8 * GRID)
    tokens = generator.encode(tiles, randomness(2))
    assert tokens.shape == (2, GRID, GRID)
    views = generator.decode(generator.augment(tokens, randomness(2)))
    assert views.shape == tiles.shape
    assert 0 <= views.min() <= views.max() <= 1
    hidden = generator.hidden(randomness(2))
    assert torch.equal(generator.augment(tokens, randomness(2))[~hidden], tokens[~hidden])


def test_a_picture_shows_tiles_reconstructions_hidden_squares_and_views() -> None:
    generator, tiles = made(), torch.rand(2, 3, 8 * GRID, 8 * GRID)
    own, again, covered, views = generator.shown(tiles, generator.encode(tiles, randomness(2)), randomness(2))
    torch.testing.assert_close(own, tiles)
    torch.testing.assert_close(again, generator.decode(generator.encode(tiles, randomness(2))))
    hidden = generator.hidden(randomness(2)).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand_as(tiles)
    assert torch.equal(covered[~hidden], tiles[~hidden])
    assert (covered[hidden] == 0.5).all()
    assert views.shape == tiles.shape


def test_at_another_strength_the_networks_are_the_same_and_the_first_is_left_as_it_was() -> None:
    generator = made()
    stronger = generator.at(0.75)
    assert (stronger.tokenizer, stronger.maskgit) == (generator.tokenizer, generator.maskgit)
    assert generator.hidden(randomness(500)).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert stronger.hidden(randomness(500)).float().mean().item() == pytest.approx(0.75, abs=0.02)


def test_centre_keeps_the_outer_ring() -> None:
    generator, tokens = made(strategy={"name": "centre"}), torch.randint(20, (3, GRID, GRID))
    views = generator.augment(tokens, randomness(3))
    inner = torch.zeros(GRID, GRID, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    assert torch.equal(generator.hidden(randomness(3)), inner.expand(3, -1, -1))
    assert torch.equal(views[:, ~inner], tokens[:, ~inner])


def test_outpainting_keeps_the_tokens_of_the_shrunk_tile_and_draws_its_place_for_each_view() -> None:
    generator, tiles = made(strategy={"name": "outpainting", "share": 0.75}), torch.rand(40, 3, 8 * GRID, 8 * GRID)
    rng = randomness(40)
    tokens, hidden = generator.encode(tiles, rng), generator.hidden(rng)
    assert torch.equal(generator.augment(tokens, rng)[~hidden], tokens[~hidden])
    # A tile of 24 px on a canvas of 32, at 0, 4 or 8: three squares of 8 are covered, or two if it starts at 4.
    assert {(~mask).sum().item() for mask in hidden} == {9, 6, 4}
    again = Randomness(0, "views", 1, torch.arange(40))
    assert not torch.equal(generator.hidden(again), hidden)
    _, _, covered, views = generator.shown(tiles, tokens, rng)
    assert views.shape == tiles.shape
    whole = hidden.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand_as(tiles)
    assert torch.equal(covered[~whole], generator.laid(tiles, rng)[~whole])


def test_outpainting_leaves_some_tiles_as_they_are() -> None:
    """Of 400 tiles none, all, or three in ten; those are the plain reconstruction, and other ones for another view."""
    tiles, rng = torch.rand(400, 3, 8 * GRID, 8 * GRID), randomness(400)
    again = Randomness(0, "views", 1, rng.tiles)
    plain = made().encode(tiles, rng)
    for probability, least, most in ((0.0, 0, 0), (0.3, 0.23, 0.37), (1.0, 1, 1)):
        generator = made(strategy={"name": "outpainting", "share": 0.75, "unlaid": probability})
        left = ~generator.hidden(rng).any(dim=(1, 2))
        assert least <= left.float().mean().item() <= most
        assert torch.equal(generator.laid(tiles, rng)[left], tiles[left])
        assert (generator.laid(tiles, rng) != tiles)[~left].any(dim=(1, 2, 3)).all()
        tokens = generator.encode(tiles, rng)
        assert torch.equal(tokens[left], plain[left])
        assert torch.equal(generator.augment(tokens, rng)[left], plain[left])
        assert torch.equal(generator.hidden(again).any(dim=(1, 2)), ~left) == (probability in (0, 1))
        some = Randomness(0, "views", 0, torch.tensor([7, 3]))
        assert torch.equal(generator.hidden(some), generator.hidden(rng)[[7, 3]]), "a function of the tile"
    always = made(strategy={"name": "outpainting", "unlaid": 1.0})
    views = always.decode(always.augment(always.encode(tiles[:4], randomness(4)), randomness(4)))
    torch.testing.assert_close(views, made().decode(plain[:4]))


def scene(where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A tile, what stands for the decoded view, and their composition."""
    tiles, others = torch.rand(1, 3, 8 * GRID, 8 * GRID), torch.rand(1, 3, 8 * GRID, 8 * GRID)
    return tiles, others, feathered(tiles, others, where)


def test_a_view_has_the_tiles_own_pixels_where_no_token_changed() -> None:
    where = torch.zeros(1, GRID, GRID, dtype=torch.bool)
    where[0, 1, 1] = True  # the square from 8 to 16
    tiles, others, view = scene(where)
    edge = FEATHER // 2
    far = torch.ones_like(tiles, dtype=torch.bool)
    far[..., 8 - edge : 16 + edge, 8 - edge : 16 + edge] = False
    assert torch.equal(view[far], tiles[far])
    inner = slice(8 + edge, 16 - edge)
    torch.testing.assert_close(view[..., inner, inner], others[..., inner, inner])


def test_the_edge_fades_evenly() -> None:
    """Along a straight edge between 0 and 1, five pixels hold 0.2 to 1 less 0.2 around it."""
    where = torch.zeros(1, GRID, GRID, dtype=torch.bool)
    where[:, :, 2:] = True
    view = feathered(torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32), where)
    torch.testing.assert_close(view[0, 0, 5, 13:19], torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]))


def test_without_a_changed_token_a_view_is_the_tile_to_the_bit() -> None:
    generator, tiles = made(), torch.rand(2, 3, 8 * GRID, 8 * GRID)
    tokens = generator.encode(tiles, randomness(2))
    assert torch.equal(generator.view(tiles, tokens, tokens, randomness(2)), tiles)


def test_a_decoded_view_is_decoded_as_a_whole() -> None:
    generator, tiles = made(pixels="decoded"), torch.rand(2, 3, 8 * GRID, 8 * GRID)
    tokens = generator.encode(tiles, randomness(2))
    augmented = generator.augment(tokens, randomness(2))
    expected = generator.decode(augmented)
    assert torch.equal(generator.view(tiles, tokens, augmented, randomness(2)), expected)

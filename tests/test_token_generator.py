"""Tiles to tokens to views, by own networks that were never trained."""

import pytest
import torch

from gcl_custom.generator.maskgit import MaskGIT
from gcl_custom.generator.token_generator import TokenGenerator
from gcl_custom.generator.vqgan import VQGAN
from gcl_custom.randomness import Randomness
from gcl_custom.recipe import Hardware
from gcl_custom.recipe_generator import MaskGIT as Settings
from gcl_custom.recipe_generator import Tokenizer, Views

GRID = 4


def made(**views: object) -> TokenGenerator:
    torch.manual_seed(0)
    tokenizer = VQGAN(3, Tokenizer(codes=20, code_width=4, channels=16, blocks=1))
    maskgit = MaskGIT(20, GRID, Settings(width=32, depth=2, heads=2))
    hardware = Hardware(precision="fp32")
    return TokenGenerator(tokenizer, maskgit, Views.model_validate(views), hardware, torch.device("cpu"))


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
    own, again, covered, views = generator.shown(tiles, randomness(2))
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

import torch
from torch import Tensor, nn

from gcl_custom.generator.augment.interface import changed, picture_rows, resized
from gcl_custom.randomness import Randomness


class Darker:
    """Features are twice the tile; the augmentation halves them."""

    device = torch.device("cpu")
    networks: tuple[nn.Module, ...] = ()

    def encode(self, tiles: Tensor, rng: Randomness) -> Tensor:
        return 2 * tiles

    def augment(self, features: Tensor, rng: Randomness) -> Tensor:
        return features / 2

    def decode(self, features: Tensor) -> Tensor:
        return features / 2

    def shown(self, tiles: Tensor, features: Tensor, rng: Randomness) -> list[Tensor]:
        return picture_rows(self, tiles, features, rng)


def test_rows_are_tiles_reconstructions_and_views() -> None:
    tiles, rng = torch.rand(2, 3, 4, 4), Randomness(0, "views", 0, torch.arange(2))
    own, again, views = Darker().shown(tiles, Darker().encode(tiles, rng), rng)
    assert torch.equal(own, tiles)
    assert torch.equal(again, tiles)
    assert torch.equal(views, tiles / 2)


def test_the_share_of_changed_tokens_is_summed_over_tiles() -> None:
    before = torch.zeros(2, 2, 2, dtype=torch.long)
    after = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [1, 0]]])
    assert changed(before, after) == 1.0
    assert changed(before.float(), after.float()) == 0
    assert changed((before, before), (after, after)) == 0


def test_tiles_keep_their_colours_at_another_side_and_all_at_their_own() -> None:
    tiles = torch.rand(2, 3, 8, 8)
    assert resized(tiles, 8) is tiles
    torch.testing.assert_close(resized(tiles, 4).mean((2, 3)), tiles.mean((2, 3)), atol=0.02, rtol=0)
    torch.testing.assert_close(resized(torch.full((1, 1, 4, 6), 0.3), 9), torch.full((1, 1, 9, 9), 0.3))
    stripes = torch.tensor([0.0, 1.0]).repeat(16).expand(1, 1, 32, 32)
    assert resized(stripes, 8).sub(0.5).abs().max() < 0.1  # where each pixel is an average; without one, all 0 or all 1
    edge = (torch.arange(16) >= 8).float().expand(1, 1, 16, 16)
    assert resized(edge, 64).aminmax() == (0, 1)
    middle = torch.linspace(0.2, 0.8, 16).expand(1, 1, 16, 16)
    torch.testing.assert_close(resized(resized(middle, 40), 16), middle, atol=0.01, rtol=0)

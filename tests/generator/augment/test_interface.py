import torch
from torch import Tensor, nn

from gcl_custom.generator.augment.interface import changed, picture_rows
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

import torch

from gcl_custom.resizing import resized


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

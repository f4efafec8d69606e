import torch

from gcl_custom.measures.pixel_features import PixelFeatures


def test_values_stand_before_mean_and_deviation_of_the_squares_around() -> None:
    tiles = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    (values,) = PixelFeatures()(tiles)
    assert torch.equal(values, tiles)
    (found,) = PixelFeatures((1, 3))(tiles)
    assert found.shape == (2, 3 * 5, 9, 9)
    assert torch.equal(found[:, :3], tiles)
    for row, column in ((4, 4), (0, 8)):  # in the middle, and at the edge, where squares end
        for place, radius in enumerate((1, 3)):
            rows, columns = (slice(max(0, at - radius), at + radius + 1) for at in (row, column))
            square = tiles[:, :, rows, columns].flatten(2)
            mean, deviation = found[:, 3 + 6 * place :, row, column][:, :6].split(3, dim=1)
            torch.testing.assert_close(mean, square.mean(2))
            torch.testing.assert_close(deviation, square.std(2, correction=0), atol=1e-4, rtol=1e-3)

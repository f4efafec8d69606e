import torch
import torch.nn.functional as F

from gcl_custom.evaluation.segmentation.decoder import Decoder


def test_every_map_reaches_every_pixel_of_the_finest() -> None:
    torch.manual_seed(0)
    decoder = Decoder([4, 6], 3)
    maps = [torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(2, 6, 2, 2, requires_grad=True)]
    logits = decoder(maps)
    assert logits.shape == (2, 3, 8, 8)
    logits[0, 0, 0, 0].backward()
    for one in maps:
        assert one.grad is not None
        assert one.grad[0].any()
        assert not one.grad[1].any()  # of another tile


def test_it_learns_a_class_that_one_map_shows_and_another_hides() -> None:
    torch.manual_seed(0)
    masks = torch.zeros(4, 8, 8, dtype=torch.int64)
    masks[:, :4] = 1
    masks[2:] = masks[2:].transpose(1, 2).clone()
    maps = [torch.randn(4, 4, 8, 8), torch.randn(4, 6, 2, 2)]
    maps[0][:, 1] += 2 * masks
    decoder = Decoder([4, 6], 2)
    optimizer = torch.optim.AdamW(decoder.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(decoder(maps), masks).backward()
        optimizer.step()
    assert (decoder(maps).argmax(1) == masks).float().mean() > 0.97

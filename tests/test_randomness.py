import pytest
import torch
from scipy import stats

from gcl_custom.randomness import Randomness, derive

TILES = torch.arange(500)


def test_a_tile_draws_the_same_in_every_batch() -> None:
    whole = Randomness(1, "pretrain", 7, TILES).uniform("crop", 3, 2)
    shuffled = TILES.flip(0)
    assert torch.equal(Randomness(1, "pretrain", 7, shuffled).uniform("crop", 3, 2), whole.flip(0))
    assert torch.equal(Randomness(1, "pretrain", 7, TILES[40:41]).uniform("crop", 3, 2), whole[40:41])


@pytest.mark.parametrize("other", [(2, "pretrain", 7, "crop"), (1, "views", 7, "crop"), (1, "pretrain", 8, "crop"),
                                   (1, "pretrain", 7, "flip")])  # fmt: skip
def test_whatever_else_changes_changes_the_numbers(other: tuple[int, str, int, str]) -> None:
    seed, stage, step, name = other
    first = Randomness(1, "pretrain", 7, TILES).uniform("crop", 20).flatten()
    second = Randomness(seed, stage, step, TILES).uniform(name, 20).flatten()
    assert (first == second).float().mean() < 0.001
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.04


def test_uniform_over_tiles_and_over_counters() -> None:
    numbers = Randomness(0, "s", 0, TILES).uniform("x", 200)
    assert 0 <= numbers.min() < numbers.max() < 1
    assert stats.kstest(numbers.flatten().double(), "uniform").pvalue > 0.01
    assert stats.kstest(numbers[:, 3].double(), "uniform").pvalue > 0.01
    assert stats.kstest(numbers[3].double(), "uniform").pvalue > 0.01
    neighbours = torch.corrcoef(numbers[:2000].T.double())
    assert float((neighbours - torch.eye(200)).abs().max()) < 0.25


def test_normal() -> None:
    numbers = Randomness(0, "s", 0, TILES).normal("x", 200).flatten().double()
    assert stats.kstest(numbers, "norm").pvalue > 0.01


def test_splitmix_known_answer() -> None:
    """The published stream of SplitMix64 from seed 0 (as in the reference implementation by Vigna)."""
    from gcl_custom.randomness import _GOLDEN, _splitmix

    found = _splitmix(torch.arange(1, 4) * _GOLDEN)
    assert [value % 2**64 for value in found.tolist()] == [
        0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F,
    ]  # fmt: skip


def test_derive_fits_torch_and_depends_on_all_parts() -> None:
    seeds = {derive(seed, stage, step) for seed in range(4) for stage in ("a", "b") for step in range(5)}
    assert len(seeds) == 40
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_tile_s_generator_is_the_same_in_every_batch() -> None:
    def numbers(rng: Randomness, name: str = "noise") -> list[float]:
        return [float(torch.rand(1, generator=generator)) for generator in rng.generators(name)]

    whole = numbers(Randomness(1, "views", 0, TILES))
    assert numbers(Randomness(1, "views", 0, TILES.flip(0)[:7])) == whole[::-1][:7]
    others = [Randomness(2, "views", 0, TILES), Randomness(1, "other", 0, TILES), Randomness(1, "views", 1, TILES)]
    drawn = {*whole, *numbers(Randomness(1, "views", 0, TILES), "other"), *(x for rng in others for x in numbers(rng))}
    assert len(drawn) > 0.99 * 5 * len(TILES)

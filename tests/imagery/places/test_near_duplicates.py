import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gcl_custom.imagery.places import near_duplicates
from gcl_custom.imagery.places.near_duplicates import MOST_DIFFERENT, SHARED, difference_hashes, near_pairs


def scene(seed: int, size: int = 64) -> np.ndarray:
    """Smooth blobs and edges: random fields of three scales."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size))
    for side in (4, 9, 30):
        field = Image.fromarray(rng.random((side, side)).astype(np.float32))
        total += np.asarray(field.resize((size, size), Image.Resampling.BICUBIC)) / side**0.3
    colours = total[..., None] * rng.uniform(0.6, 1, 3)
    return (255 * (colours - colours.min()) / np.ptp(colours)).astype(np.uint8)


def tensor(*pictures: np.ndarray) -> Tensor:
    return torch.stack([torch.from_numpy(picture.copy()).permute(2, 0, 1) for picture in pictures])


def saved_anew(picture: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


def changed(picture: np.ndarray) -> list[np.ndarray]:
    """The same picture saved anew, brightened, with noise, and made smaller and larger again."""
    rng, size = np.random.default_rng(0), picture.shape[:2]
    half = Image.fromarray(picture).resize((size[1] // 2, size[0] // 2)).resize((size[1], size[0]))
    brighter = np.clip(1.2 * picture + 10, 0, 255).astype(np.uint8)
    noisy = np.clip(picture + rng.normal(0, 5, picture.shape), 0, 255).astype(np.uint8)
    return [saved_anew(picture), brighter, noisy, np.asarray(half)]


def test_changed_copies_are_found_and_nothing_else() -> None:
    originals = [scene(seed) for seed in range(60)]
    copies = [copy for picture in originals[:10] for copy in changed(picture)]
    hashes, telling = difference_hashes(tensor(*originals, *copies))
    assert telling.all()
    split = np.array([0] * len(originals) + [2] * len(copies))
    assert near_pairs(hashes, telling, split).tolist() == [[number // 4, 60 + number] for number in range(40)]


def test_pairs_agree_with_counting_bits_one_by_one() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**8, (300, 2)).astype(np.uint64)
    split, telling = rng.integers(0, 3, 300), rng.random(300) < 0.9
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    content = [str(number) for number in rng.integers(0, 40, 300)]
    slow = []
    for one in range(300):
        near = (
            other
            for other in range(300)
            if split[one] != split[other]
            and telling[one]
            and telling[other]
            and content[one] != content[other]
            and (bits[one] != bits[other]).sum() <= 2
        )
        if (first := next(near, None)) is not None:
            slow.append((min(one, first), max(one, first)))
    found = near_pairs(hashes, telling, split, most=2, digests=content)
    assert [*map(tuple, found.tolist())] == sorted(set(slow))
    assert slow


@pytest.mark.parametrize("chunk", [50, 2**21])
def test_among_many_tiles_the_same_pairs_are_found_by_the_bytes_that_they_share(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (3000, 2), dtype=np.uint64)
    bits = np.unpackbits(hashes[:1000].view(np.uint8), axis=1)
    for number, row in enumerate(bits):  # up to 17 answers change
        row[rng.permutation(128)[: number % 18]] ^= 1
    hashes[1000:2000] = np.packbits(bits, axis=1).view(np.uint64)
    split, telling = np.arange(3000) // 1000, rng.random(3000) < 0.95
    compared = near_pairs(hashes, telling, split)
    assert len(compared) > 600
    monkeypatch.setattr(near_duplicates, "MANY", 0)
    monkeypatch.setattr(near_duplicates, "CHUNK", chunk)
    monkeypatch.setattr(near_duplicates, "_half_alike", None)
    np.testing.assert_array_equal(near_pairs(hashes, telling, split), compared)


def test_near_duplicates_share_two_bytes() -> None:
    """With most answers different, 4 of 16 bytes agree wherever these lie."""
    alike = 16 - MOST_DIFFERENT
    assert all(any(pair in SHARED for pair in combinations(four, 2)) for four in combinations(range(16), alike))


def test_where_nearly_all_share_bytes_all_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MANY", 0)
    monkeypatch.setattr(near_duplicates, "_joined", None)
    hashes = np.zeros((40, 2), np.uint64)
    pairs = near_pairs(hashes, np.ones(40, bool), np.arange(40) % 2).tolist()
    assert pairs == [[0, other] for other in range(1, 40, 2)] + [[1, other] for other in range(2, 40, 2)], "not all 400"


def test_a_hash_is_what_neighbouring_means_say() -> None:
    """By loops, on a side that eight and nine divide."""
    picture = scene(3, 72)
    grey = picture.astype(np.float64).mean(2)
    across = grey.reshape(8, 9, 9, 8).mean((1, 3))
    down = grey.reshape(9, 8, 8, 9).mean((1, 3))
    bits = [across[i, j + 1] > across[i, j] for i in range(8) for j in range(8)]
    bits += [down[i + 1, j] > down[i, j] for i in range(8) for j in range(8)]
    hashes, _ = difference_hashes(tensor(picture))
    assert np.unpackbits(hashes.view(np.uint8)).tolist() == [int(bit) for bit in bits]


def test_blank_tiles_are_not_compared() -> None:
    blank = np.full((64, 64, 3), 7, np.uint8)
    mostly = blank.copy()
    mostly[:, :16] = scene(0)[:, :16]
    hashes, telling = difference_hashes(tensor(blank, blank + 1, mostly, scene(1)))
    assert telling.tolist() == [False, False, False, True]
    assert near_pairs(hashes, telling, np.array([0, 2, 2, 0])).shape == (0, 2)


def test_sixteen_bits_and_many_bands() -> None:
    tiles = torch.stack([torch.from_numpy(scene(seed)[..., 0].astype(np.int32) * 200) for seed in (0, 0, 1)])
    hashes, telling = difference_hashes(tiles[:, None].expand(-1, 12, -1, -1))
    assert telling.all()
    assert near_pairs(hashes, telling, np.array([0, 1, 2])).tolist() == [[0, 1]]


@pytest.mark.parametrize(("name", "closest"), [("wildfire", 9), ("eurosat", 15)])
def test_places_of_real_imagery_are_told_apart(real_data: Path, name: str, closest: int) -> None:
    """Among all pairs of 400 tiles none is a near duplicate, and all tiles saved anew are, but for open water."""
    paths = sorted((real_data / name).rglob("*.jpg"))[::6][:400]
    pictures = [np.asarray(Image.open(path).convert("RGB").resize((64, 64))) for path in paths]
    hashes, telling = difference_hashes(tensor(*pictures))
    numbers = np.arange(len(hashes))
    assert near_pairs(hashes, telling, numbers, most=closest).shape == (0, 2)
    assert closest <= MOST_DIFFERENT or name == "eurosat"
    contrast = [number for number, picture in enumerate(pictures) if picture.mean(2).std() > 12][:100]
    anew, _ = difference_hashes(tensor(*(saved_anew(pictures[number]) for number in contrast)))
    different = np.bitwise_count(anew ^ hashes[contrast]).sum(axis=1)
    assert (different <= MOST_DIFFERENT).mean() >= 0.9


def test_values_without_data_count_as_zero_in_floats_and_signed_integers() -> None:
    tiles = torch.from_numpy(np.random.default_rng(3).integers(-900, 900, (4, 2, 32, 32)).astype(np.int32))
    tiles[:, :, 5:9] = -(2**15)
    zero = tiles.clone()
    zero[:, :, 5:9] = 0
    floats = tiles.float().masked_fill(tiles == -(2**15), torch.finfo(torch.float32).min)
    expected = difference_hashes(zero)[0]
    assert np.array_equal(difference_hashes(tiles)[0], expected)
    assert np.array_equal(difference_hashes(floats)[0], expected)

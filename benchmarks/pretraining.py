"""Tiles a second of contrastive pretraining, against lightly's VICReg example as shipped.

    python -m benchmarks.pretraining [TILE_SIZE]

Both train a ResNet-18 with a projector of two layers of 2048 on the same tiles, batch 256, whole epochs in turn,
reading and augmentation included. lightly's side is its example: JPEG files, ImageFolder, VICRegTransform in a
DataLoader with two workers, VICRegLoss, SGD, fp32. Ours is what the stage does: stored uint8 tiles, batched
augmentations, channels last, bf16 where the device has it, LARS. The time of a whole epoch counts, so nothing is
prefetched during the other's turn. Augmentation alone is compared with torchvision's transforms v2, one thread each.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from jaxtyping import Float, UInt8
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from lightly.transforms.vicreg_transform import VICRegTransform
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from gcl_custom.methods.vicreg import VICReg
from gcl_custom.pretraining import backbones
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.methods import VICRegSettings as Settings
from gcl_custom.recipe.pretraining import HandcraftedSettings, LarsSettings
from gcl_custom.training import optimizers
from gcl_custom.training.devices import autocast, pick_device
from gcl_custom.views.handcrafted import handcrafted

TARGET = 2.5
BATCH = 256
WIDTHS = [2048, 2048]
WORKERS = 2
Epoch = Callable[[], float]


def scenes(count: int, size: int) -> UInt8[Tensor, "n 3 h w"]:
    """Smooth random tiles: noise at an eighth of the resolution, enlarged."""
    coarse = torch.rand(count, 3, max(size // 8, 2), max(size // 8, 2), generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return (smooth.clamp(0, 1) * 255).to(torch.uint8)


def write_jpegs(tiles: UInt8[Tensor, "n 3 h w"], folder: Path) -> None:
    """One file a tile, in one class folder."""
    folder = folder / "tiles"
    folder.mkdir(parents=True)
    for number, tile in enumerate(tiles):
        Image.fromarray(tile.permute(1, 2, 0).numpy()).save(folder / f"{number:06d}.jpg", quality=95)


def ours(tiles: UInt8[Tensor, "n 3 h w"]) -> Epoch:
    """An epoch as the stage trains it."""
    hardware, suite, size = HardwareSettings(), HandcraftedSettings(), tiles.shape[-1]
    device = pick_device(hardware)
    backbone, width = backbones.build("resnet18", 3)
    method = VICReg(backbone, width, Settings(projector=WIDTHS))
    module = nn.ModuleDict({"backbone": backbone, "method": method}).to(device)
    optimizer = optimizers.make(LarsSettings(), module, BATCH)
    steps = 0

    def epoch() -> float:
        nonlocal steps
        for numbers in torch.randperm(len(tiles)).split(BATCH):
            unit = tiles[numbers].to(device).float() / 255
            rng = Randomness(0, "benchmark", steps, numbers)
            views = [handcrafted(unit, suite, view, size, True, rng) for view in (0, 1)]
            with autocast(hardware, device):
                seen = [backbone(view.contiguous(memory_format=torch.channels_last)) for view in views]
                terms = method(seen, views, 0.0)
                loss = torch.stack(list(terms.values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
        return loss.item()

    return epoch


def lightlys(folder: Path, size: int) -> Epoch:
    """An epoch of lightly's example."""
    device = pick_device(HardwareSettings())
    data = torchvision.datasets.ImageFolder(str(folder), transform=VICRegTransform(input_size=size))
    loader = torch.utils.data.DataLoader(
        data, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True
    )
    resnet = torchvision.models.resnet18()
    backbone = nn.Sequential(*list(resnet.children())[:-1], nn.Flatten())
    head = VICRegProjectionHead(input_dim=512, hidden_dim=WIDTHS[0], output_dim=WIDTHS[1], num_layers=len(WIDTHS))
    model = nn.Sequential(backbone, head).to(device)
    criterion = VICRegLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)

    def epoch() -> float:
        for (first, second), _ in loader:
            loss = criterion(model(first.to(device)), model(second.to(device)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.item())

    return epoch


def torchvision_suite(size: int) -> Callable[[Float[Tensor, "3 h w"]], Float[Tensor, "3 h w"]]:
    """The suite of our first view, in torchvision's words."""
    suite: Callable[[Tensor], Tensor] = v2.Compose(
        [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.GaussianBlur(13, (0.1, 2.0)),
        ]
    )
    return suite


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def row(name: str, seconds: dict[str, list[float]], count: int, unit: str, target: float) -> dict[str, Any]:
    """The median over rounds of the ratio of the second way's time to the first's."""
    ours_, theirs = seconds.values()
    rates = [count / statistics.median(taken) for taken in (ours_, theirs)]
    return {
        "name": name,
        "ratio": statistics.median(b / a for a, b in zip(ours_, theirs, strict=True)),
        "target": target,
        "detail": f"{rates[0]:.3g} against {rates[1]:.3g} {unit} a second",
    }


def rows(size: int = 64, steps: int = 2, rounds: int = 3) -> list[dict[str, Any]]:
    """Rows with name, ratio, target and detail."""
    tiles = scenes(steps * BATCH, size)
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(tiles, Path(folder))
        training = in_turn({"ours": ours(tiles), "lightly": lightlys(Path(folder), size)}, rounds)
    some, suite = tiles[:BATCH].float() / 255, torchvision_suite(size)
    numbers = torch.arange(BATCH)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    augmenting = in_turn(
        {
            "ours": lambda: handcrafted(some, HandcraftedSettings(), 0, size, True, Randomness(0, "b", 0, numbers)),
            "torchvision": lambda: [suite(tile) for tile in some],
        },
        rounds,
    )
    torch.set_num_threads(threads)
    return [
        row(f"pretraining step, ResNet-18, {size} px, against lightly", training, len(tiles), "tiles", TARGET),
        row(f"handcrafted views, {size} px, against torchvision v2", augmenting, BATCH, "views", TARGET),
    ]


if __name__ == "__main__":
    for line in rows(*(int(argument) for argument in sys.argv[1:2])):
        print(f"{line['name']}: {line['ratio']:.1f} times (target {line['target']:g}); {line['detail']}")

"""A step of contrastive pretraining, against lightly's VICReg example as it comes and given our precision and layout.

    python -m benchmarks.pretraining [TILE_SIZE]

All train the same network with a projector of two layers of 2048 on the same 128 tiles, a step of each in turn, reading
and augmentation included. lightly's side is its example: JPEG files, ImageFolder, VICRegTransform in a DataLoader,
VICRegLoss, SGD, fp32; then the same under bf16's autocast with channels last. Ours is the stage's own step: stored
uint8 tiles, batched augmentations, channels last, hardware.precision auto, LARS. On a CPU processor time counts, so all
work of a side, and files are read in the process that trains. Freed memory is kept for all of them. Augmentation alone
is compared with torchvision's transforms v2.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import timm
import torch
import torchvision
from jaxtyping import Float, Int, UInt8
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from lightly.transforms.vicreg_transform import VICRegTransform
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from benchmarks.record import Row
from benchmarks.steps import BATCH, Step, in_turn, row, watch
from gcl_custom.check.step_costs import MadeUpReader, MadeUpTiles
from gcl_custom.pretraining.contrastive import Contrastive
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.methods import VICRegSettings
from gcl_custom.recipe.pretraining import HandcraftedSettings, PretrainSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.training.allocator import keep_freed_memory
from gcl_custom.training.batches import Batch
from gcl_custom.training.devices import autocast, pick_device
from gcl_custom.training.engine import engine
from gcl_custom.training.steps import Steps
from gcl_custom.training.stopwatch import Stopwatch
from gcl_custom.views.handcrafted import handcrafted

NETWORKS = ("resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224")
SIZES = (64, 128)
SHIPPED, GIVEN, READING = 4.0, 1.4, 10.0
"""Goals: times lightly's step as it comes, times the one given bf16 and channels last, and percent of our own step."""
AUGMENTING = 2.5
ROUNDS = 3
WIDTHS = [2048, 2048]


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


class Scenes(MadeUpTiles):
    """A store of given tiles in memory."""

    def __init__(self, tiles: UInt8[Tensor, "n 3 h w"]) -> None:
        super().__init__(3, tiles.shape[-1], rgb=True)
        self._tiles = tiles

    def read(self, index: Int[Tensor, " b"]) -> UInt8[Tensor, "b 3 h w"]:
        return self._tiles[index.cpu()]


def ours(network: str, tiles: UInt8[Tensor, "n 3 h w"]) -> tuple[Step, Step]:
    """A step of the stage, and the part of it that reads the tiles and makes their views."""
    settings = PretrainSettings(
        backbone=network, batch=BATCH, mixing_rate=0.0, probe_every=0, method=VICRegSettings(projector=WIDTHS)
    )
    data = DataSettings(root="made up", size=tiles.shape[-1])
    recipe, store = Recipe(name="benchmark", data=data, pretrain=settings), Scenes(tiles)
    reader = MadeUpReader(store, recipe)
    module = Contrastive(store, reader, settings, 1000, BATCH, seed=0)
    fabric = engine(recipe.hardware)
    steps, taken = Steps(module, fabric, recipe.hardware, "benchmark"), iter(range(1000))

    def batch() -> Batch:
        numbers = torch.randperm(len(tiles))[:BATCH]
        made: Batch = fabric.to_device(Batch(next(taken), numbers, reader(numbers)))
        return made

    return lambda: steps.take(batch()), lambda: module.views(batch())


def lightlys(network: str, folder: Path, size: int, given: bool) -> Step:
    """A step of lightly's example.

    Args:
        given: whether it computes in our precision, and with channels last.
    """
    hardware = HardwareSettings()
    device = pick_device(hardware)
    data = torchvision.datasets.ImageFolder(str(folder), transform=VICRegTransform(input_size=size))
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)
    # A transformer is built for pictures of one size; the others have no such argument.
    of_size = {"img_size": size} if network.startswith("vit") else {}
    backbone = timm.create_model(network, num_classes=0, **of_size)
    head = VICRegProjectionHead(backbone.num_features, WIDTHS[0], WIDTHS[1], num_layers=len(WIDTHS))
    model, criterion = nn.Sequential(backbone, head).to(device), VICRegLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    layout = torch.channels_last if given else torch.contiguous_format
    model = model.to(memory_format=layout)
    under: Callable[[], AbstractContextManager[object]] = partial(autocast, hardware, device) if given else nullcontext

    def step() -> None:
        (first, second), _ = next(iter(loader))
        with under():
            seen = [model(view.to(device).contiguous(memory_format=layout)) for view in (first, second)]
        loss = criterion(*(z.float() for z in seen))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


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


def _training(network: str, size: int, by: Stopwatch) -> list[Row]:
    tiles = scenes(BATCH, size)
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(tiles, Path(folder))
        step, views = ours(network, tiles)
        sides = {
            "ours": step,
            "lightly": lightlys(network, Path(folder), size, given=False),
            "lightly, given": lightlys(network, Path(folder), size, given=True),
        }
        seconds = in_turn({**sides, "views": views}, ROUNDS, by)
    what = f"pretraining step, {network}, {size} px"
    own = statistics.median(seconds["ours"])
    made = statistics.median(seconds["views"])
    return [
        *(
            row(f"{what}, against {name}", {"ours": seconds["ours"], name: seconds[name]}, BATCH, "tiles", goal)
            for name, goal in (("lightly", SHIPPED), ("lightly, given", GIVEN))
        ),
        Row(
            name=f"{what}: reading and augmenting",
            ratio=100 * made / own,
            unit="% of it",
            target=READING,
            most=True,
            detail=f"{made:.3g} of {own:.3g} s",
        ),
    ]


def _augmenting(size: int, by: Stopwatch) -> Row:
    some, suite = scenes(BATCH, size).float() / 255, torchvision_suite(size)
    numbers = torch.arange(BATCH)
    seconds = in_turn(
        {
            "ours": lambda: handcrafted(some, HandcraftedSettings(), 0, size, True, Randomness(0, "b", 0, numbers)),
            "torchvision": lambda: [suite(tile) for tile in some],
        },
        ROUNDS,
        by,
    )
    return row(f"handcrafted views, {size} px, against torchvision v2", seconds, BATCH, "views", AUGMENTING)


def rows(sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """Rows for each network and side of a tile, and one for each side's augmentations."""
    keep_freed_memory()
    by = watch(pick_device(HardwareSettings()))
    found = [row for network in NETWORKS for size in sizes for row in _training(network, size, by)]
    return found + [_augmenting(size, by) for size in sizes]


def main(arguments: list[str]) -> None:
    """Measure and print."""
    for line in rows(tuple(map(int, arguments)) or SIZES):
        goal, unit = line["target"], line.get("unit", "times")
        print(f"{line['name']}: {line['ratio']:.2f} {unit} (goal {goal:g}); {line['detail']}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""A public backbone continued by lightly-train, by lightly and by ours, on the same tiles and from the same weights.

    python -m benchmarks.peers OBJECTS FOLDER [--epochs 8] [--only NAME ...]   train what is missing, score, tabulate
    python -m benchmarks.peers --page                                         only write the table into docs/results.md

OBJECTS holds the images of ``recipes/objects-small.yaml``. What is trained stays in FOLDER, so that a command that was
stopped begins with the training that it was at. Each training is a process of its own, and its processor seconds count
from its start to its end. All backbones are scored by one ``gcl-custom evaluate``. Nothing is chosen by the scores.

lightly-train is under the AGPL: it is compared with and is no dependency. Its default method, distillation, needs DINO
weights of the hub, so its SimCLR is taken, with all its defaults but two: the normalisation is the one that the weights
have seen, and tiles are read in the training process, as everywhere here. lightly's SimCLR is its tutorial's on
pictures seen from above: vertical flips and turns, SGD with momentum, a cosine over epochs; 64 px as the tiles are, and
128 tiles a step as everywhere here.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining.start import fix_norms
from gcl_custom.training.devices import processor
from gcl_custom.weights.starts import OF_LITE, packaged

ROOT = Path(__file__).parents[1]
RECIPE, NETWORK, BATCH = "objects-small", "tf_efficientnet_lite0", 128
SCORES = "scores"
"""The run that packs the tiles and scores all backbones."""
NORMALISE = {"mean": [OF_LITE[0]] * 3, "std": [OF_LITE[1]] * 3}
KEPT = ROOT / "docs/results/peers/objects.json"
PAGE = ROOT / "docs/results.md"
BETWEEN = re.compile(r"(<!-- peers -->\n).*?(<!-- /peers -->)", re.DOTALL)
PACKAGES = ("torch", "torchvision", "timm", "lightly", "lightly-train", "pytorch-lightning")
COLUMNS = {
    "linear": "linear probe", "knn": "kNN", "shots@1": "1 label a class", "shots@5": "5 labels",
    "shots@10": "10 labels",
}  # fmt: skip
LIGHTLY_TRAIN_RATE = 0.3
"""The default of its SimCLR, for 256 tiles a step; it halves it for 128."""
Train = Callable[[Path, int, Path], None]
"""Trains on a folder of tiles, for so many epochs, and writes the backbone to a file."""


def begun() -> nn.Module:
    """timm's network with the ImageNet weights of its package, without a classifier."""
    network = timm.create_model(NETWORK, num_classes=0)
    network.load_state_dict(packaged(NETWORK, network))
    return network


def keep(network: nn.Module, file: Path) -> None:
    """Write a network for ``gcl-custom evaluate --backbone NAME=FILE@NETWORK:normalised``."""
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)


# ---------------------------------------------------------------- lightly-train


class Wrapped(nn.Module):
    """The network as lightly-train takes one; its own adapter takes 320 of the 1,280 features of an EfficientNet."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def feature_dim(self) -> int:
        return int(self.network.num_features)  # type: ignore[arg-type]

    def forward_features(self, x: Float[Tensor, "b c h w"]) -> dict[str, Float[Tensor, "b d _ _"]]:
        return {"features": self.network.forward_features(x)}  # type: ignore[operator]

    def forward_pool(self, x: dict[str, Float[Tensor, "b d _ _"]]) -> dict[str, Float[Tensor, "b d 1 1"]]:
        return {"pooled_features": x["features"].mean((2, 3), keepdim=True)}

    def get_model(self) -> nn.Module:
        return self.network


def lightly_train(tiles: Path, epochs: int, file: Path, rate: float, size: int = 224) -> None:
    """SimCLR of lightly-train; its SGD has a rate, momentum, weight decay, a warmup and a cosine of their own.

    Args:
        rate: for 256 tiles a step.
        size: side to which crops are resized; 224 px by default.
    """
    os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] = (
        "1"  # read when it starts to train; otherwise it reports each training
    )
    import lightly_train  # type: ignore[import-not-found]

    network = begun()
    with tempfile.TemporaryDirectory() as folder:
        lightly_train.pretrain(
            out=folder, overwrite=True, data=str(tiles), model=Wrapped(network), method="simclr", epochs=epochs,
            batch_size=BATCH, num_workers=0, accelerator="cpu", optim_args={"lr": rate},
            transform_args={"normalize": NORMALISE, "image_size": (size, size)},
        )  # fmt: skip
    keep(network, file)


# ---------------------------------------------------------------- lightly


def lightly(tiles: Path, epochs: int, file: Path, rate: float = 0.06, fixed: bool = False) -> None:
    """SimCLR of lightly's tutorial.

    Args:
        fixed: batch norms stay as they are.
    """
    from lightly.loss import NTXentLoss
    from lightly.models.modules.heads import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from torchvision.datasets import ImageFolder

    torch.manual_seed(0)
    network = begun()
    width = int(network.num_features)  # type: ignore[arg-type]
    head, criterion = SimCLRProjectionHead(width, width, 128), NTXentLoss()
    views = SimCLRTransform(input_size=64, vf_prob=0.5, rr_prob=0.5, normalize=NORMALISE)
    data = torch.utils.data.DataLoader(ImageFolder(str(tiles), views), batch_size=BATCH, shuffle=True, drop_last=True)
    weights = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(weights, lr=rate, momentum=0.9, weight_decay=5e-4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    network.train()
    if fixed:
        fix_norms(network, "frozen")
    for epoch in range(epochs):
        losses = []
        for (first, second), _ in data:
            loss = criterion(head(network(first)), head(network(second)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        cosine.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {sum(losses) / len(losses):.3f}", flush=True)
    keep(network, file)


PEERS: dict[str, tuple[str, Train]] = {
    "lightly": ("lightly, SimCLR, 64 px, batch norms trained, rate 0.06", lightly),
    "lightly-fixed": ("lightly, SimCLR, 64 px, batch norms fixed, rate 0.06", partial(lightly, fixed=True)),
    "lightly-train": (
        "lightly-train, SimCLR, its defaults: 224 px, rate 0.3",
        partial(lightly_train, rate=LIGHTLY_TRAIN_RATE),
    ),
    "lightly-train-low": (
        "lightly-train, SimCLR, 224 px, rate 0.03",
        partial(lightly_train, rate=LIGHTLY_TRAIN_RATE / 10),
    ),
    "lightly-train-small": (
        "lightly-train, SimCLR, 64 px, rate 0.03",
        partial(lightly_train, rate=LIGHTLY_TRAIN_RATE / 10, size=64),
    ),
    "lightly-low": ("lightly, SimCLR, 64 px, batch norms trained, rate 0.006", partial(lightly, rate=0.006)),
    "lightly-fixed-low": (
        "lightly, SimCLR, 64 px, batch norms fixed, rate 0.006",
        partial(lightly, rate=0.006, fixed=True),
    ),
}
"""Name -> what it is, and what trains it."""
WITHOUT_TARGETS = ("--set", "pretrain.targets={name: none}")
OURS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pair": ("ours, VICReg, raw pair, batch norms fixed", WITHOUT_TARGETS),
    "targets": ("ours, VICReg, raw pair and targets, batch norms fixed", ()),
}
"""Name -> what it is, and the options by which it departs from the recipe."""


# ---------------------------------------------------------------- trainings, each measured


def spent(work: Callable[[], None]) -> float:
    """Processor seconds of the processes that are started and waited for meanwhile."""

    def so_far() -> float:
        times = os.times()
        return times.children_user + times.children_system

    before = so_far()
    work()
    return so_far() - before


def command(objects: Path, folder: Path, verb: str, run: str, *options: str) -> None:
    """Call ``gcl-custom`` with the recipe and one seed."""
    same = ("--set", f"data.root={objects.resolve()}", "--set", "compare.seeds=[0]")
    words = [verb, RECIPE, "--run", run, "--runs", str(folder / "runs"), *same, *options]
    subprocess.run([sys.executable, "-c", "from gcl_custom.cli.main import main; main()", *words], check=True)


def in_its_process(train: Train, tiles: Path, epochs: int, file: Path) -> None:
    """Train in a process that starts anew.

    Raises:
        RuntimeError: it failed.
    """
    process = get_context("spawn").Process(target=train, args=(tiles, epochs, file))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the training of {file.stem} ended with {process.exitcode}: see above")


def write_tiles(store: TileStore, folder: Path) -> None:
    """The training tiles as PNG files, in one class folder."""
    (folder / "tiles").mkdir()
    for number, tile in enumerate(store.read(store.index("train"))):
        Image.fromarray(tile.permute(1, 2, 0).numpy()).save(folder / "tiles" / f"{number:06d}.png")


def trained(name: str, objects: Path, folder: Path, epochs: int) -> None:
    """Train one of ``PEERS`` or ``OURS``, unless it is kept, and keep what it cost."""
    about = folder / f"{name}-{epochs}.json"
    if about.exists():
        return
    print(f"{datetime.now(UTC):%H:%M} {name}, {epochs} epochs", flush=True)
    if name in OURS:
        keys = (f"pretrain.epochs={epochs}", "pretrain.probe_every=0", "hardware.precision=auto")
        options = [*OURS[name][1], *(word for key in keys for word in ("--set", key))]
        shutil.rmtree(folder / "runs" / f"{name}-{epochs}", ignore_errors=True)  # or only the rest would be measured
        seconds = spent(lambda: command(objects, folder, "pretrain", f"{name}-{epochs}", *options))
    else:
        store = TileStore(folder / "runs" / SCORES / "tiles")
        with tempfile.TemporaryDirectory() as tiles:
            write_tiles(store, Path(tiles))
            file = folder / f"{name}-{epochs}.safetensors"
            seconds = spent(lambda: in_its_process(PEERS[name][1], Path(tiles), epochs, file))
    kept = {"name": name, "epochs": epochs, "processor_seconds": round(seconds, 1)}
    about.write_text(json.dumps(kept | {"date": datetime.now(UTC).date().isoformat()}), encoding="utf-8")


# ---------------------------------------------------------------- scores


def packed(objects: Path, folder: Path) -> None:
    """Pack the tiles and score the public weights, before anything is trained."""
    if (folder / "runs" / SCORES / "evaluate/scores.json").exists():
        return
    keep(begun(), folder / "public.safetensors")
    command(objects, folder, "evaluate", SCORES, "--backbone", _public(folder))


def _public(folder: Path) -> str:
    return f"public={folder / 'public.safetensors'}@{NETWORK}:normalised"


def scored(objects: Path, folder: Path) -> None:
    """Score all that is trained, and keep it for the page."""
    trainings = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    specs: dict[str, str] = {}
    for training in trainings:
        name = f"{training['name']}-{training['epochs']}"
        file = folder / f"{name}.safetensors"
        specs[name] = f"run:{name}" if training["name"] in OURS else f"{file}@{NETWORK}:normalised"
    options = [word for name, spec in specs.items() for word in ("--backbone", f"{name}={spec}")]
    command(objects, folder, "evaluate", SCORES, "--backbone", _public(folder), *options)
    scores = json.loads((folder / "runs" / SCORES / "evaluate/scores.json").read_text(encoding="utf-8"))
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    KEPT.parent.mkdir(exist_ok=True)
    kept = {
        "command": "python -m benchmarks.peers OBJECTS FOLDER --epochs EPOCHS",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": head.strip(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES if _there(package)},
        "trainings": trainings,
        "test_tiles": scores["test_tiles"],
        "scores": {name: scores["scores"][name] for name in ("public", *specs)},
        "comparisons": [each for each in scores["comparisons"] if {each["ours"], each["theirs"]} <= {"public", *specs}],
    }
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _there(package: str) -> bool:
    return find_spec(package.replace("-", "_")) is not None


def as_markdown(kept: dict[str, Any]) -> str:
    """The table for the page, and how it came about."""
    titles = {name: title for name, (title, _) in {**OURS, **PEERS}.items()}
    lines = [["backbone", "epochs", "processor seconds", *COLUMNS.values()], ["---"] * (3 + len(COLUMNS))]
    rows = [("public", "public weights, frozen", "", "")]
    for training in sorted(kept["trainings"], key=lambda each: [*titles].index(each["name"])):
        name = f"{training['name']}-{training['epochs']}"
        seconds = f"{training['processor_seconds']:.0f}"
        rows.append((name, titles[training["name"]], str(training["epochs"]), seconds))
    for name, *cells in rows:
        lines.append([*cells, *(_cell(kept["scores"][name][metric]) for metric in COLUMNS)])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    versions = ", ".join(f"{package} {number}" for package, number in kept["versions"].items())
    how = (
        f"Top-1 in percent on {kept['test_tiles']} test tiles, with the 95 % interval over test tiles; one seed. "
        f"`{kept['command']}`, commit {kept['commit']}, {kept['date']}, {kept['threads']} thread of "
        f"{kept['processor']}; {versions}. [All figures](results/peers/{KEPT.name})"
    )
    return f"\n{table}\n{how}\n\n"


def _cell(score: dict[str, Any]) -> str:
    mean, low, high = (100 * score[key] for key in ("mean", "low", "high"))
    return f"{mean:.1f} ({low:.1f}-{high:.1f})"


def page(text: str) -> str:
    """The page with the table of what is kept."""
    table = as_markdown(json.loads(KEPT.read_text(encoding="utf-8")))
    return BETWEEN.sub(lambda found: found[1] + table + found[2], text)


def show() -> None:
    """Write the table into the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def main(words: list[str]) -> None:
    """Train, score and tabulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=Path, nargs="?")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--only", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args(words)
    if given.page:
        show()
        return
    if given.folder is None:
        parser.error("give the folder of the images and one for what is trained")
    if not _there("lightly-train") and any(name.startswith("lightly-train") for name in given.only):
        parser.error(
            "lightly-train is not installed. It is no dependency, since its licence is the AGPL. For this comparison "
            "alone: pip install lightly-train==0.18.0, or leave it out by --only"
        )
    given.folder.mkdir(parents=True, exist_ok=True)
    packed(given.objects, given.folder)
    for name in given.only:
        trained(name, given.objects, given.folder, given.epochs)
    scored(given.objects, given.folder)
    show()


if __name__ == "__main__":
    main(sys.argv[1:])

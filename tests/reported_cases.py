"""Inputs that failed for users, tried again: python tests/reported_cases.py FOLDER

FOLDER has a folder for each case, named by its number, and ``tiny.yaml``, their recipe. Each case is tried in a copy,
by the commands that a user types. What is right is said here. Prints a line for each case; the exit code is 1 if one
is wrong.
"""

import io
import json
import os
import re
import runpy
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.transforms import v2

import gcl_custom
from gcl_custom.cli.main import main
from gcl_custom.imagery.decoding import Form, Tile, reading
from gcl_custom.imagery.read_tile import read_tile
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    code: object
    text: str

    @property
    def clear(self) -> bool:
        """Whether it did its work, or ended with one message."""
        return "Traceback" not in self.text and (self.code == 0 or self.text.count("error: ") == 1)

    @property
    def last(self) -> str:
        """The message that it ended with, or its first warning, or its last line."""
        found = re.findall(r"^(?:error|warning): .*", self.text, re.MULTILINE)
        errors = [line for line in found if line.startswith("error")]
        lines = self.text.split("\n")
        return next(iter([*errors, *found]), next((line for line in reversed(lines) if line.strip()), ""))


class Wrong(Exception):  # noqa: N818  a verdict
    """The case fails still; the text says how."""


def type_in(command: str, *values: str) -> Said:
    """Type a command of the kit in the folder of the case; TINY stands for the recipe of all cases."""
    out, code = io.StringIO(), 0
    sys.argv = [*(str(TINY) if word == "TINY" else word for word in command.split()), *values]
    with redirect_stdout(out), redirect_stderr(out):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0  # type: ignore[assignment]
        except Exception:  # noqa: BLE001  it is shown as the case's verdict
            traceback.print_exc()
            code = 1
    return Said(code, out.getvalue())


def want(said: Said, pattern: str = "", code: int | None = 0) -> str:
    """What a command said that did as it should: the line with the pattern.

    Args:
        pattern: what it says.
        code: its exit code; None for any.
    """
    if not said.clear:
        raise Wrong(f"exit code {said.code}: {said.text.strip()[-300:]}")
    line = re.search(f".*(?:{pattern}).*", said.text, re.IGNORECASE)
    if (code is not None and said.code != code) or line is None:
        raise Wrong(said.last)
    return line[0] if pattern else said.last


TINY = Path("tiny.yaml")
CHECK = "gcl-custom check TINY --set data.root=tiles"
FIT = "gcl-custom fit-generator TINY --set data.root=tiles --run x"


def tile(path: str, size: int, bands: int = 3) -> np.ndarray:
    """The pixels that packing makes of a file."""
    with reading():
        found = read_tile(Path(), Source(path), Form(bands, "uint8"), DataSettings(root=".", size=size)).tile()
    if not isinstance(found, Tile):
        raise Wrong(f"{path}: {found}")
    return found.pixels


def negative_values_stay() -> str:
    want(type_in(FIT))
    store = TileStore(Path("runs/x/tiles"))
    stored, expected = [], []
    for number, source in enumerate(store.sources):
        with rasterio.open(Path("tiles") / source.path) as file:
            values = file.read().astype(float)
        stored.append(store.read(torch.tensor([number]))[0].double().mean(dim=(1, 2)).numpy())
        expected.append(values.reshape(len(values), -1).mean(axis=1))
    apart = float(np.abs(np.array(stored) - np.array(expected)).max())
    low, high = np.round(store.low).ravel().tolist(), np.round(store.high).ravel().tolist()
    if min(low) >= 0 or apart > 60:
        raise Wrong(f"means of tiles are off by {apart:.0f}, edges {low} to {high}")
    return f"values below zero stay: means equal to {apart:.1f}, edges {low} to {high}"


def near_infrared_is_a_band() -> str:
    plain = want(type_in(CHECK), r"4 bands|name all bands \(data\.bands\)")
    named = type_in(f"{CHECK} --set data.card=naip-card.yaml")
    want(named, "4 bands of uint8")
    want(named, "unusable files: none")
    return f"with its card 4 bands, none unusable; without: {plain}"


def pages_are_not_dropped() -> str:
    return want(type_in(CHECK), r"12 bands|12 pages", None)


def all_unusable_is_one_message() -> str:
    return want(type_in(f"{CHECK} --set data.size=128"), "error: ", 1)


def a_dangling_link_is_listed() -> str:
    Path("tiles/Forest/zz.jpg").symlink_to("gone.jpg")
    said = type_in(CHECK)
    want(said, "cannot be opened", None)
    return want(said, r"zz\.jpg", None)


def a_stray_file_is_named() -> str:
    said = type_in(CHECK)
    want(said, r"Forest.*Highway|4 classes|Forest")
    return want(said, r"overview\.jpg")


def runs_are_no_imagery() -> str:
    with chdir("tiles"):
        for command in (
            "fit-generator tiny.yaml --set data.root=.",
            "pretrain",
            "fit-generator tiny.yaml --set data.root=.",
        ):
            want(type_in(f"gcl-custom {command}"))
        count = len(TileStore(Path("runs/tiny/tiles")))
    if count != 16:
        raise Wrong(f"{count} tiles of 16 pictures")
    return "16 pictures, 16 tiles, before and after"


def fixed_sizes_are_refused_first() -> str:
    names = ("mixer_s32_224", "cait_xxs24_224", "levit_128s", "deit_tiny_distilled_patch16_224")
    seen = []
    for name in names:
        given = f"--set data.root=tiles --set pretrain.stem=standard --set pretrain.backbone={name}"
        said = type_in(f"gcl-custom check TINY {given}")
        want(said, code=None)
        if said.code:
            want(type_in(f"gcl-custom run TINY {given} --run {name}"), code=1)
            if Path("runs", name, "tokenizer").exists():
                raise Wrong(f"{name}: refused after the generator was trained")
        seen.append(f"{name} {'refused before any stage' if said.code else 'is built for 32 px'}")
    return "; ".join(seen)


def a_jpeg_is_as_documented() -> str:
    """64 to 32 px, and 350 to 64 px, against the resize that ``export`` states."""
    apart = 0.0
    for number, path in enumerate(sorted((FOLDER / "05-dangling-link").rglob("*.jpg"))[:6]):
        with Image.open(path) as picture:
            picture.resize((350, 350), Image.Resampling.BICUBIC).save(f"{number}.jpg", quality=90)
        shutil.copy(path, f"own-{number}.jpg")
        for name, size in ((f"own-{number}.jpg", 32), (f"{number}.jpg", 64)):
            with Image.open(name) as picture:
                whole = torch.from_numpy(np.array(picture)).movedim(2, 0)
            expected = v2.functional.resize(whole, [size, size], antialias=True).numpy()
            apart = max(apart, float(np.abs(tile(name, size).astype(float) - expected).max()))
    if apart > 1:
        raise Wrong(f"single pixels up to {apart:.0f} of 255 off")
    return f"single pixels at most {apart:.0f} of 255 off"


def finished_work_stays_usable() -> str:
    want(type_in("gcl-custom run TINY --set data.root=tiles --run x"))
    shutil.copy("tiles/A/00.png", "tiles/A/c.png")
    seen = want(type_in("gcl-custom compare-supervised --run x"), "goes on with the tiles that it has")
    want(type_in("gcl-custom export --run x --to timm --out e.safetensors"))
    want(type_in("gcl-custom embed tiles --run x --out e.parquet"))
    return seen


def an_orientation_is_followed() -> str:
    with Image.open("rgb.png") as picture:
        size = min(picture.size)
    upright = tile("rgb.png", size).astype(float)
    apart = [float(np.abs(tile(name, size) - upright).mean()) for name in ("orient6.tif", "exif6.jpg")]
    if apart[0] > 0 or apart[1] > 20:
        raise Wrong(f"mean difference to the upright picture: TIFF {apart[0]:.1f}, JPEG {apart[1]:.1f}")
    return f"upright: the TIFF equal, the JPEG to {apart[1]:.1f} levels"


def scenes_are_spoken_of() -> str:
    Path("tiles").mkdir()
    values = np.random.default_rng(0).integers(1, 9000, (3, 64, 64)).astype(np.uint16)
    for number in range(4):
        about = {"count": 3, "height": 4608, "width": 4608, "dtype": "uint16", "compress": "deflate"}
        with reading(), rasterio.open(f"tiles/{number}.tif", "w", driver="GTiff", **about) as file:
            file.write(np.tile(np.roll(values, number, 2), (1, 72, 72)))
    said = type_in(CHECK)
    seen = want(said, r"scene|window|one tile", None)
    Image.fromarray(np.zeros((12000, 16000), np.uint8)).save("tiles/large.png")
    large = type_in(CHECK)
    want(large, code=None)
    if "damaged" in large.text:
        raise Wrong(large.last)
    return seen


def a_small_stem_is_said() -> str:
    shutil.copytree(FOLDER / "12-data-changed-after-training" / "tiles", "tiles")
    want(type_in("gcl-custom pretrain TINY --set data.root=tiles --set pretrain.mixing_rate=0 --run x"))
    file = Path("runs/x/pretrain/gcl-0/backbone.safetensors")
    with safe_open(file, "pt") as opened:
        about = json.loads((opened.metadata() or {}).get("gcl_custom", "{}"))
    network, transform = gcl_custom.load(file)
    plain = timm.create_model("resnet10t", num_classes=0)
    plain.maxpool = torch.nn.Identity()
    plain.load_state_dict(load_file(file))
    pictures = sorted(Path("tiles").rglob("*.png"))[:8]
    tiles = torch.stack([transform(path) for path in pictures])
    with torch.inference_mode():
        likeness = torch.cosine_similarity(network(tiles), plain.eval()(tiles)).min().item()
    if about.get("stem") != "small" or likeness < 0.9999:
        raise Wrong(f"the file says {about or 'nothing'}; cosine to the right representations {likeness:.2f}")
    return f"the file says stem small; cosine to the right representations {likeness:.4f}"


def checkpoints_of_others_are_read() -> str:
    shutil.copytree(FOLDER / "12-data-changed-after-training" / "tiles", "tiles")
    Path("ck").mkdir()
    runpy.run_path("mkck.py")
    evaluate = "gcl-custom evaluate TINY --set data.root=tiles --run x --backbone"
    want(type_in(f"{evaluate} solo=ck/solo.ckpt@resnet18"))
    for name, part in (("moco.pth.tar", "encoder_q"), ("dino.pth", "teacher"), ("dinov2.pth", "student")):
        want(type_in(f"{evaluate} theirs=ck/{name}@resnet18"), ":part=", 1)
        want(type_in(f"{evaluate} {part}=ck/{name}@resnet18:part={part}"))
    return "a Lightning checkpoint is read; of MoCo and DINO the message names :part=, which works"


def band_files_are_joined_or_named() -> str:
    said = type_in(CHECK)
    return want(said, "join|3 bands", None)


def masks_are_no_tiles() -> str:
    """They are labels of each pixel, or the message says what to do with them."""
    said = type_in("gcl-custom check TINY --set data.root=.")
    if said.code == 0:
        want(said, "a tile: 12 bands")
    return want(said, r"a class a pixel|error: .*Masks are no tiles", None)


CASES: dict[str, Callable[[], str]] = {
    "01": negative_values_stay,
    "02": near_infrared_is_a_band,
    "03": pages_are_not_dropped,
    "04": all_unusable_is_one_message,
    "05": a_dangling_link_is_listed,
    "07": a_stray_file_is_named,
    "08": runs_are_no_imagery,
    "10": fixed_sizes_are_refused_first,
    "11": a_jpeg_is_as_documented,
    "12": finished_work_stays_usable,
    "15": an_orientation_is_followed,
    "16": scenes_are_spoken_of,
    "17": a_small_stem_is_said,
    "18": checkpoints_of_others_are_read,
    "19": band_files_are_joined_or_named,
    "21": masks_are_no_tiles,
}
"""Number of a case -> what a right one says; it raises Wrong otherwise."""


def tried(case: Path, scratch: Path) -> tuple[bool, str]:
    """Whether a case is right, and what was seen."""
    place = scratch / case.name
    shutil.copytree(case, place, symlinks=True)
    with chdir(place):
        try:
            return True, CASES[case.name[:2]]()
        except Wrong as wrong:
            return False, str(wrong)
        except Exception:  # noqa: BLE001  one case must not hide the others
            return False, traceback.format_exc()[-500:]


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    FOLDER = Path(sys.argv[1]).resolve()
    TINY = FOLDER / "tiny.yaml"
    torch.set_num_threads(1)
    os.environ.setdefault("COLUMNS", "200")
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for case in sorted(path for path in FOLDER.iterdir() if path.name[:2] in CASES):
            right, seen = tried(case, Path(scratch))
            wrong += not right
            print(f"{case.name:32} {'right' if right else 'WRONG'}  {' '.join(seen.split())[:300]}", flush=True)
    sys.exit(wrong > 0)

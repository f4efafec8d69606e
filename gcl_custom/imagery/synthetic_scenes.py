"""Synthetic scenes of five land covers, written as small GeoTIFFs: imagery for a first run and for tests.

A scene shows countryside, a mosaic of woods, meadows and fields. One land cover fills much of it and names its class.
All scenes share palettes and vary in season, sun and haze, so that mean colour does not give the class away.

    h w  pixels of a scene     a field of numbers over a scene is (h, w), a reflectance (band, h, w) in 0..1
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
from filelock import FileLock
from jaxtyping import Bool, Float, Int, UInt

from gcl_custom.console import progress, say
from gcl_custom.errors import UserError
from gcl_custom.files import read_json, write_json
from gcl_custom.machine_faults import writing
from gcl_custom.recipe.imagery import SyntheticScenesSettings

Field = Float[np.ndarray, "h w"]
Mask = Bool[np.ndarray, "h w"]
Reflectance = Float[np.ndarray, "4 h w"]
Colour = Float[np.ndarray, "4"]

MARK = ".synthetic.json"
METRES_PER_PIXEL = 5.0

# Reflectance in red, green, blue and near infrared.
CANOPY = np.array(
    [[0.05, 0.10, 0.05, 0.40], [0.08, 0.13, 0.06, 0.36], [0.11, 0.13, 0.07, 0.30], [0.06, 0.09, 0.06, 0.28]]
)
MEADOW = np.array([[0.14, 0.21, 0.09, 0.45], [0.22, 0.24, 0.12, 0.38], [0.29, 0.26, 0.16, 0.33]])
CROPS = np.array(
    [
        [0.10, 0.20, 0.07, 0.50], [0.16, 0.25, 0.10, 0.46], [0.36, 0.33, 0.18, 0.40], [0.30, 0.24, 0.16, 0.32],
        [0.24, 0.18, 0.13, 0.27], [0.17, 0.13, 0.10, 0.20], [0.33, 0.34, 0.14, 0.44], [0.08, 0.15, 0.07, 0.42],
    ]
)  # fmt: skip
WATER = np.array(
    [[0.03, 0.06, 0.08, 0.02], [0.05, 0.10, 0.11, 0.03], [0.13, 0.15, 0.12, 0.06], [0.03, 0.04, 0.05, 0.02]]
)
ROOFS = np.array(
    [[0.38, 0.20, 0.14, 0.34], [0.30, 0.29, 0.28, 0.30], [0.52, 0.50, 0.47, 0.50], [0.24, 0.19, 0.16, 0.24]]
)
ASPHALT = np.array([0.22, 0.22, 0.22, 0.24])
TRACK = np.array([0.36, 0.31, 0.23, 0.40])
CHAR = np.array([[0.06, 0.055, 0.05, 0.09], [0.11, 0.085, 0.07, 0.13], [0.17, 0.13, 0.10, 0.19]])


@cache
def _frequency(side: int) -> Float[np.ndarray, "h f"]:
    """Spatial frequency of each term of a real Fourier transform, in cycles per scene; 1 in place of 0."""
    down, across = np.fft.fftfreq(side, 1 / side), np.fft.rfftfreq(side, 1 / side)
    frequency: Float[np.ndarray, "h f"] = np.hypot(down[:, None], across[None])
    frequency[0, 0] = 1
    return frequency


@dataclass(frozen=True)
class Canvas:
    """Random numbers and pixel grid of a scene."""

    rng: np.random.Generator
    side: int

    def noise(self, slope: float, finest: float = 1e9) -> Field:
        """Fractal noise of mean 0 and deviation 1. Amplitude is frequency to the power of -slope.

        Args:
            finest: wavelength in pixels below which the noise fades out.
        """
        frequency = _frequency(self.side)
        amplitude = frequency**-slope
        if finest < 1e9:
            amplitude = amplitude * np.exp(-((frequency * finest / self.side) ** 2))
        spectrum = np.fft.rfft2(self.rng.standard_normal((self.side, self.side))) * amplitude
        spectrum[0, 0] = 0
        field: Field = np.fft.irfft2(spectrum, s=(self.side, self.side))
        field /= field.std()
        return field

    def rotated(self, bend: float = 0.0) -> tuple[Field, Field]:
        """Pixel coordinates along two perpendicular axes of random direction, distorted by about ``bend`` pixels."""
        angle = self.rng.uniform(0, np.pi)
        y, x = np.mgrid[: self.side, : self.side] + self.rng.uniform(0, 1000, (2, 1, 1))
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        return (u + bend * self.noise(2.5), v + bend * self.noise(2.5)) if bend else (u, v)

    def one_of(self, palette: Float[np.ndarray, "n 4"]) -> Colour:
        """A random mixture of two colours of a palette."""
        first, second = palette[self.rng.integers(len(palette), size=2)]
        mixture: Colour = second + self.rng.uniform() * (first - second)
        return mixture

    def chance(self, probability: float) -> bool:
        return bool(self.rng.uniform() < probability)

    def most(self, field: Field, share: float) -> Mask:
        """Mask of the given share of pixels, those with the highest values."""
        highest: Mask = field > np.quantile(field, 1 - share)
        return highest


def _filled(colour: Colour, texture: Field) -> Reflectance:
    cover: Reflectance = colour[:, None, None] * np.clip(1 + texture, 0.2, 3)
    return cover


def _lay(ground: Reflectance, mask: Mask, cover: Reflectance) -> Reflectance:
    return np.where(mask, cover, ground)


def _hash(*cells: Int[np.ndarray, "h w"]) -> Field:
    """A pseudo-random number in [0, 1) for each cell of a grid."""
    mixed = np.zeros_like(cells[0])
    for cell, prime in zip(cells, (73856093, 19349663, 83492791), strict=False):
        mixed += cell * prime
    number: Field = ((mixed ^ (mixed >> 13)) * 1274126177 & 0xFFFF) / 0x10000
    return number


def _woods(canvas: Canvas) -> Reflectance:
    """Crowns of a few pixels, lit from one side, over stands that differ in colour."""
    crowns = canvas.noise(-0.6, finest=canvas.rng.uniform(2.2, 3.6))
    stands = 0.12 * canvas.noise(1.6)
    return _filled(canvas.one_of(CANOPY), 0.24 * crowns + 0.14 * np.roll(crowns, (1, 1), (0, 1)) + stands)


def _meadow(canvas: Canvas) -> Reflectance:
    return _filled(canvas.one_of(MEADOW), 0.10 * canvas.noise(1.4) + 0.03 * canvas.noise(0.0))


def _parcels(canvas: Canvas) -> Reflectance:
    """Fields in strips. Each has its crop and rows, and sometimes a hedge."""
    u, v = canvas.rotated(bend=canvas.rng.uniform(0, 1.5))
    width, length = canvas.rng.uniform(9, 20), canvas.rng.uniform(16, 40)
    column = np.floor(u / width).astype(int)
    shifted = v + length * _hash(column, column)
    row = np.floor(shifted / length).astype(int)
    salt = np.full_like(row, canvas.rng.integers(10**6))
    crop = CROPS[(_hash(column, row, salt) * len(CROPS)).astype(int)].transpose(2, 0, 1)
    rows = np.sin(2 * np.pi * (u if canvas.chance(0.5) else v) / canvas.rng.uniform(2.3, 4))
    furrows = 0.09 * rows * (_hash(row, column, salt) > 0.4)
    tint = 1 + 0.25 * (_hash(salt, column, row) - 0.5)
    fields: Reflectance = crop * np.clip((1 + furrows + 0.07 * canvas.noise(1.2)) * tint, 0.3, 2)
    if canvas.chance(0.6):
        edge = ((u % width) < 1.1) | ((shifted % length) < 1.1)
        fields = _lay(fields, edge, _woods(canvas) if canvas.chance(0.5) else _filled(TRACK, np.zeros_like(u)))
    return fields


def _countryside(canvas: Canvas) -> Reflectance:
    """The surroundings of every land cover: woods and meadows, sometimes with fields, a pond or a road."""
    ground = _lay(_meadow(canvas), canvas.most(canvas.noise(2.0), canvas.rng.uniform(0.1, 0.8)), _woods(canvas))
    if canvas.chance(0.35):
        ground = _lay(ground, canvas.most(canvas.noise(2.6), canvas.rng.uniform(0.1, 0.35)), _parcels(canvas))
    if canvas.chance(0.15):
        ground = _lay(ground, canvas.most(canvas.noise(2.8), canvas.rng.uniform(0.02, 0.07)), _lake(canvas))
    if canvas.chance(0.45):
        ground = _road(canvas, ground)
    return ground


def _road(canvas: Canvas, ground: Reflectance) -> Reflectance:
    u, _ = canvas.rotated(bend=canvas.rng.uniform(1, 6))
    middle = np.quantile(u, canvas.rng.uniform(0.25, 0.75))
    surface = ASPHALT if canvas.chance(0.5) else TRACK
    return _lay(ground, np.abs(u - middle) < canvas.rng.uniform(0.6, 1.4), _filled(surface, 0.05 * canvas.noise(0.0)))


def _lake(canvas: Canvas) -> Reflectance:
    return _filled(canvas.one_of(WATER), 0.10 * canvas.noise(1.8) + 0.04 * canvas.noise(0.3))


def _forest(canvas: Canvas) -> Reflectance:
    """Woods over most of the scene, with clearings."""
    ground = _lay(_countryside(canvas), canvas.most(canvas.noise(2.2), canvas.rng.uniform(0.6, 0.95)), _woods(canvas))
    return _road(canvas, ground) if canvas.chance(0.3) else ground


def _burn_scar(canvas: Canvas) -> Reflectance:
    """Charred ground with a ragged edge, patches of ash and soil, and unburnt islands."""
    ground = _countryside(canvas)
    if canvas.chance(0.6):
        ground = _lay(ground, canvas.most(canvas.noise(2.2), 0.7), _woods(canvas))
    burnt = canvas.most(canvas.noise(1.7), canvas.rng.uniform(0.25, 0.7))
    burnt &= ~canvas.most(canvas.noise(1.2), canvas.rng.uniform(0.0, 0.2))
    patches = canvas.noise(1.3)[None]
    char, ash = canvas.one_of(CHAR), canvas.one_of(CHAR) * canvas.rng.uniform(1.2, 2.2)
    severity = 1 / (1 + np.exp(-2 * patches))
    scar = (char[:, None, None] * severity + ash[:, None, None] * (1 - severity)) * (1 + 0.10 * canvas.noise(0.4))
    remains = canvas.rng.uniform(0.0, 0.3)
    return _lay(ground, burnt, scar * (1 - remains) + ground * remains)


def _water(canvas: Canvas) -> Reflectance:
    """A lake or a river, with a shore."""
    ground = _countryside(canvas)
    if canvas.chance(0.5):
        depth = canvas.noise(2.9)
        depth = depth - np.quantile(depth, 1 - canvas.rng.uniform(0.2, 0.7))
    else:
        u, _ = canvas.rotated(bend=canvas.rng.uniform(5, 12))
        depth = canvas.rng.uniform(3, 9) - np.abs(u - np.quantile(u, canvas.rng.uniform(0.35, 0.65)))
    if canvas.chance(0.6):
        ground = _lay(
            ground, depth > -canvas.rng.uniform(0.05, 0.25) * depth.std(), _filled(TRACK, 0.1 * canvas.noise(0.5))
        )
    return _lay(ground, depth > 0, _lake(canvas))


def _settlement(canvas: Canvas) -> Reflectance:
    """Streets with houses and gardens, thinning out towards the countryside."""
    u, v = canvas.rotated(bend=canvas.rng.uniform(0, 2))
    plot, block = canvas.rng.uniform(4.5, 7), canvas.rng.integers(2, 5)
    column, row = np.floor(u / plot).astype(int), np.floor(v / plot).astype(int)
    salt = np.full_like(row, canvas.rng.integers(10**6))
    built = canvas.most(canvas.noise(2.4), canvas.rng.uniform(0.45, 0.95))
    house = _hash(column, row, salt) < canvas.rng.uniform(0.55, 0.95)
    wide, deep = (0.35 + 0.4 * _hash(salt, row, column)), (0.35 + 0.4 * _hash(row, salt, column))
    house &= ((u / plot) % 1 < wide) & ((v / plot) % 1 < deep)
    shade = 0.85 + 0.3 * _hash(column, salt, row)
    roofs = ROOFS[(_hash(salt, column, row) * len(ROOFS)).astype(int)].transpose(2, 0, 1) * shade
    street = ((u / plot) % block < 0.28) | ((v / plot) % (block + 1) < 0.28)
    garden = _lay(_meadow(canvas), canvas.most(canvas.noise(0.8), canvas.rng.uniform(0.2, 0.6)), _woods(canvas))
    town = _lay(_lay(garden, house, roofs), street, _filled(ASPHALT, 0.06 * canvas.noise(0.0)))
    return _lay(_countryside(canvas), built, town)


def _cropland(canvas: Canvas) -> Reflectance:
    """Fields over most of the scene, with a copse."""
    return _lay(_countryside(canvas), canvas.most(canvas.noise(2.4), canvas.rng.uniform(0.6, 0.97)), _parcels(canvas))


CLASSES: dict[str, Callable[[Canvas], Reflectance]] = {
    "burn_scar": _burn_scar,
    "cropland": _cropland,
    "forest": _forest,
    "settlement": _settlement,
    "water": _water,
}


def _seen(canvas: Canvas, ground: Reflectance) -> Reflectance:
    """Add season, relief, sun, haze and sensor noise to the ground."""
    rng = canvas.rng
    autumn = rng.uniform(-0.15, 0.35)
    ground = ground * (1 + autumn * np.array([0.9, 0.2, 0.3, -0.4]))[:, None, None]
    relief = canvas.noise(2.3)
    slope = np.gradient(relief)[rng.integers(2)]
    light = rng.uniform(0.65, 1.3) * np.clip(1 + rng.uniform(0, 0.9) * slope, 0.5, 1.6)
    tint = rng.uniform(0.92, 1.08, (4, 1, 1))
    haze = np.clip(rng.uniform(-0.1, 0.35) + 0.05 * canvas.noise(2.8), 0, 0.6)
    air = np.array([0.26, 0.29, 0.34, 0.20])[:, None, None]
    noise = rng.normal(0, 0.006, ground.shape)
    seen: Reflectance = np.clip(ground * light * tint * (1 - haze) + air * haze + noise, 0, 1)
    return seen


def scene(name: str, side: int, seed: int, number: int) -> Reflectance:
    """A scene of a class: reflectances of red, green, blue and near infrared. It depends on the arguments alone."""
    canvas = Canvas(np.random.default_rng([seed, number]), side)
    return _seen(canvas, CLASSES[name](canvas))


def stored(reflectance: Reflectance, near_infrared: bool) -> UInt[np.ndarray, "c h w"]:
    """Convert reflectance to four bands of uint16 (times 10,000), or to a picture of red, green and blue in uint8."""
    if near_infrared:
        # 0 is reserved for nodata.
        return np.asarray(np.clip(np.rint(reflectance * 10_000), 1, None), dtype=np.uint16)
    return np.asarray(np.rint(255 * np.clip(reflectance[:3] / 0.5, 0, 1) ** (1 / 1.6)), dtype=np.uint8)


def draw(root: Path, settings: SyntheticScenesSettings) -> None:
    """Draw scenes into class folders of an empty or missing folder. If they are there already, do nothing.

    Where another process draws them, wait for it.

    Raises:
        UserError: the folder holds something else.
    """
    if _are_drawn(root, settings):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    lock = root.with_name(f".{root.name}.lock")
    with FileLock(lock):
        try:
            if not _are_drawn(root, settings):
                _draw_all(root, settings)
        finally:
            lock.unlink(missing_ok=True)  # whoever waited for it finds the scenes drawn, or draws them


def _are_drawn(root: Path, settings: SyntheticScenesSettings) -> bool:
    """Whether these scenes are there. Raises a UserError if something else is."""
    mark = root / MARK
    if mark.is_file() and read_json(mark) == settings.model_dump(mode="json"):
        return True
    if root.is_dir() and any(root.iterdir()):
        what = "scenes of other settings" if mark.is_file() else "files that were not drawn"
        raise UserError(
            f"data.synthetic draws into an empty folder, but {root} holds {what}. "
            f"Remove the folder, give another one as data.root, or leave out data.synthetic"
        )
    return False


def _draw_all(root: Path, settings: SyntheticScenesSettings) -> None:
    """Draw all scenes into a folder that takes its name at the end."""
    say(f"drawing {settings.tiles} synthetic scenes into {root}")
    part = root.with_name(f".{root.name}.part")
    try:
        _draw_into(part, settings)
        if root.is_dir():
            root.rmdir()
        os.replace(part, root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _draw_into(part: Path, settings: SyntheticScenesSettings) -> None:
    shutil.rmtree(part, ignore_errors=True)
    for name in CLASSES:
        (part / name).mkdir(parents=True)
    names = list(CLASSES)
    with progress(settings.tiles, "drawing scenes", "scenes") as bar:
        for number in range(settings.tiles):
            name = names[number % len(names)]
            pixels = stored(scene(name, settings.pixels, settings.seed, number), settings.near_infrared)
            path = part / name / f"{name}_{number:05d}.tif"
            content = _geotiff(pixels, number)
            with writing(path, size=len(content)):
                path.write_bytes(content)
            bar.advance()
    write_json(part / MARK, settings.model_dump(mode="json"))


def _geotiff(pixels: UInt[np.ndarray, "c h w"], number: int) -> bytes:
    """A GeoTIFF in UTM zone 33 north. Scenes lie on a grid in the order of their numbers.

    Made in memory: where the disk is full, GDAL leaves a file that is cut off, without an error.
    """
    bands, side, _ = pixels.shape
    step = side * METRES_PER_PIXEL
    west, north = 400_000 + number % 40 * step, 5_400_000 - number // 40 * step
    place = rasterio.Affine(METRES_PER_PIXEL, 0, west, 0, -METRES_PER_PIXEL, north)
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff",
            width=side,
            height=side,
            count=bands,
            dtype=pixels.dtype,
            crs="EPSG:32633",
            transform=place,
        ) as target:
            target.write(pixels)
        return bytes(file.read())

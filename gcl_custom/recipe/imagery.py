"""The settings of the section ``data``, and the fields of a data set's card."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gcl_custom.counted import counted
from gcl_custom.recipe.section import CountOrZero, Pixels, Positive, Section, Seed, Share
from gcl_custom.recipe.store import StoreSettings


class SyntheticScenesSettings(Section):
    """Imagery that is drawn on the spot, for a first run without a download. Every page says that it is synthetic."""

    tiles: Annotated[int, Field(ge=20, le=10**6)] = 1200
    """Number of GeoTIFF scenes to draw, one tile each, spread evenly over the classes."""
    pixels: Annotated[int, Field(ge=16, le=2**13)] = 64
    """Side of a scene, in pixels."""
    near_infrared: bool = False
    """Draw four bands of uint16 (reflectance times 10,000) instead of red, green and blue of uint8."""
    seed: Seed = 0
    """Seed of the drawing."""


class SplitLists(Section):
    """Text files below the root that name the files of each split, one path a line, as public data sets have them."""

    train: str | None = None
    """Text file of the training files. Without it, these are all that no other list names; with it, files that no list
    names are left out."""
    valid: str | None = None
    """Text file of the validation files; without it, they are drawn from the training files."""
    test: str | None = None
    """Text file of the test files; without it, they are drawn from the training files."""

    @model_validator(mode="after")
    def _some(self) -> "SplitLists":
        if not self.given:
            raise ValueError("give the text file of one split at least: train, valid or test")
        return self

    @property
    def given(self) -> dict[Literal["train", "valid", "test"], str]:
        """The text files that there are, by split."""
        return {name: file for name in ("train", "valid", "test") if (file := getattr(self, name)) is not None}


class SplitSettings(Section):
    """How tiles are divided into training, validation and test tiles."""

    by: Literal["random", "blocks", "scene", "folders", "lists"] | None = None
    """What decides: chance, tile by tile; chance, for whole blocks on the ground or whole scenes; folders, a card or
    the table of labels; text files. The first three divide all tiles anew, whatever folders say. Without it: lists or
    folders where they give splits; else, where windows are cut from three scenes or more, whole scenes, and from fewer,
    or from scenes of the same ground, blocks of windows; else chance."""
    lists: SplitLists | None = None
    """The text files of the splits."""
    block_km: Positive | None = None
    """Side of a block on the ground, in kilometres. Without it, the longest of 1, 2, 5, 10, ... km of which 20 blocks
    or more hold tiles, none more than a tenth of them."""
    block_degrees: Positive | None = None
    """Side of a block in degrees of longitude and latitude, in place of kilometres."""
    buffer_km: Annotated[float, Field(ge=0)] | None = 0.0
    """Training and validation tiles are left out whose centre lies within so many kilometres of that of a tile of
    another split, and windows of scenes that share ground with one; test tiles stay. null: none is left out."""
    near_km: Positive = 1.0
    """Reports say what share of the test tiles lies within so many kilometres of a training tile."""
    train: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Share of the tiles to train on, where chance divides them."""
    valid: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tiles to choose settings on."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tiles to score. The three shares sum to 1."""
    seed: Seed = 0
    """Seed of the division, separate from the run's seed so that runs of different seeds share the test split."""

    @property
    def chance(self) -> Literal["random", "blocks", "scene"] | None:
        """The ways of chance: with one of them, splits that folders give do not count."""
        return self.by if self.by in ("random", "blocks", "scene") else None

    @model_validator(mode="after")
    def _whole(self) -> "SplitSettings":
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            raise ValueError(f"train + valid + test must be 1, not {self.train + self.valid + self.test:g}")
        if self.block_km is not None and self.block_degrees is not None:
            raise ValueError("give block_km or block_degrees, not both")
        if (self.block_km or self.block_degrees) and self.by != "blocks":
            raise ValueError("block_km and block_degrees are sides of blocks: they need by: blocks")
        if (self.by == "lists") != (self.lists is not None) and (self.by is not None):
            raise ValueError("by: lists and the section lists belong together: give both, or lists alone")
        return self


PERCENTILES = (0.1, 99.9)
"""Of the training tiles' values, for data of other types than uint8: what becomes 0 and 1."""
Value = Annotated[float, Field(ge=-1e30, le=1e30)]


class ScalingSettings(Section):
    """Which values of each band become 0 and 1; values beyond are cut off. It is fitted once, to the training tiles,
    and kept with the run. By default uint8 is divided by 255, and other types take the percentiles 0.1 and 99.9."""

    percentiles: Annotated[list[Annotated[float, Field(ge=0, le=100)]], Field(min_length=2, max_length=2)] | None = None
    """Two percentiles of each band over the training tiles, without nodata. They become 0 and 1."""
    low: Value | Annotated[list[Value], Field(min_length=1)] | None = None
    """The value that becomes 0, of all bands or one for each, in place of percentiles."""
    high: Value | Annotated[list[Value], Field(min_length=1)] | None = None
    """The value that becomes 1."""

    @model_validator(mode="after")
    def _whole(self) -> "ScalingSettings":
        if self.percentiles and not self.percentiles[0] < self.percentiles[1]:
            raise ValueError(f"percentiles must ascend, such as [2, 98], not {self.percentiles}")
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high belong together: give both")
        if self.percentiles and self.low is not None:
            raise ValueError("give either percentiles, or low and high")
        lows, highs = ([edge] if isinstance(edge, float) else edge or [] for edge in (self.low, self.high))
        if len(lows) > 1 and len(highs) > 1 and len(lows) != len(highs):
            raise ValueError(f"low has {counted(len(lows), 'value')} and high {len(highs)}: give one for each band")
        times = max(len(lows), len(highs))
        for low, high in zip(lows * (times // max(1, len(lows))), highs * (times // max(1, len(highs))), strict=True):
            if high - low <= 1e-6 * max(abs(low), abs(high)):
                raise ValueError(f"high must lie above low in every band, not {high:g} above {low:g}")
        return self


class CloudSettings(Section):
    """What says where a scene is cloudy: a band of its file, or a mask in a file beside it."""

    band: Annotated[int, Field(ge=1, le=2**16)] | None = None
    """Number of the mask's band in the scene's file, from 1. It is no band of the tiles."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """End of the name of the mask's file: with _clouds.tif, the scene a.tif has its mask in a_clouds.tif beside it."""
    values: Annotated[list[int], Field(min_length=1)]
    """Values of the mask that mean cloud, such as [3, 8, 9, 10] in the scene classification of Sentinel-2."""
    most: Share = 0.1
    """Largest share of cloudy pixels that a window may have. Windows with more are left out, and counted."""

    @model_validator(mode="after")
    def _one_mask(self) -> "CloudSettings":
        if (self.band is None) == (self.file is None):
            raise ValueError("cloud needs band or file, one of them: where the mask is")
        if self.file is not None and ("/" in self.file or "." not in self.file.lstrip(".")):
            raise ValueError(f"cloud.file is the end of a file's name, such as _clouds.tif, not {self.file!r}")
        return self


ADDRESS = re.compile(r"(?:/vsicurl/)?https?://[^/]+/.+|(?:s3://|/vsis3/)[^/]+/.+")
"""Of a file on another machine."""


def is_address(text: str) -> bool:
    """Whether a text is the address of a file that may be read over the network."""
    return ADDRESS.fullmatch(text) is not None


class RemoteSettings(Section):
    """Scenes on other machines, which are cut beside those of data.root. They are read once, when tiles are packed."""

    addresses: Annotated[list[str], Field(min_length=1)] | str
    """Addresses of GeoTIFF or JPEG 2000: https://..., s3://..., or as GDAL writes them, /vsicurl/https://... and
    /vsis3/...; or a text file below data.root with one a line."""
    timeout_seconds: Positive = 30.0
    """Longest time that an answer may take."""
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Attempts after one that failed, where the server is busy or the connection breaks."""

    @field_validator("addresses")
    @classmethod
    def _addresses(cls, given: list[str] | str) -> list[str] | str:
        for address in [given] if isinstance(given, str) else given:
            if is_address(address) == isinstance(given, str):
                raise ValueError(
                    f"{address} stands alone: give a list, [{address}], or a text file"
                    if isinstance(given, str)
                    else f"{address!r} is no address: take https://SERVER/FILE.tif or s3://BUCKET/FILE.tif"
                )
        return given


class ScenesSettings(Section):
    """Cut every file into windows, each a tile: for GeoTIFF, COG, JPEG 2000 and .npy that are larger than a tile."""

    tile: Annotated[int, Field(ge=16, le=2**13)] | None = None
    """Side of a window in pixels; data.size without it. A window of another side is resized to data.size."""
    overlap: CountOrZero = 0
    """Pixels that neighbouring windows share. Less than a window at the right and the lower edge is not used."""
    metres: Positive | None = None
    """Side of a pixel on the ground, in metres, to which all scenes are resampled, north up. Without it, each scene is
    cut in its own pixels, whatever its projection."""
    cloud: CloudSettings | None = None
    remote: RemoteSettings | None = None
    sameness: Share = 0.98
    """Largest share of a window's pixels that may equal their right neighbour in all bands. Windows with more, such as
    a fill value, are left out, and counted."""

    def side(self, size: int) -> int:
        """Side of a window in pixels, where tiles have ``size``."""
        return self.tile or size


POLYGONS, RASTERS = (".geojson", ".json", ".gpkg", ".shp"), (".tif", ".tiff", ".jp2")
"""Ends of the names of files that say what lies on the ground."""


class DataSettings(Section):
    """Where the imagery is, and how it becomes tiles."""

    root: str
    """Folder of images, relative to the current folder: flat, class folders, or split folders. Or a collection: an
    archive, WebDataset shards, Parquet, or stacks of arrays; several files by a folder or by braces,
    shards/{000..009}.tar."""
    card: str | None = None
    """Name of a card in datasets/, or path of your own card. Without one, the layout is recognised."""
    bands: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the bands, in the order in the files, if no card names them. A file with another number of bands is
    unusable. Exactly [red, green, blue] means colour. Without names most files decide, and three bands mean colour."""
    use_bands: Annotated[list[int | str], Field(min_length=1)] | None = None
    """Bands of a file to take, in this order: names (of data.bands, the card, or the files' own), or numbers from 1.
    Without it, all."""
    scaling: ScalingSettings = ScalingSettings()
    quicklook: Annotated[list[int | str], Field(min_length=1, max_length=3)] | None = None
    """Three bands that pictures of tiles show as red, green and blue, or one in grey, by name or number in a file. By
    default red, green and blue where names say which these are, or else the first three. Except for 8-bit colours, each
    is stretched between its percentiles 2 and 98."""
    labels: str | None = None
    """CSV or Parquet file below the root with a row a file: columns file, labels (names separated by ;) and, if wanted,
    split. Without it, folders say the classes. Of windows of scenes, also polygons (.geojson, .gpkg, .shp) or a raster
    of class numbers (.tif); with "*_labels.tif" each scene a.tif has its own in a_labels.tif beside it. Where the root
    is Parquet, the column of labels; where it is shards, the key of each tile's JSON."""
    label_column: str | None = None
    """Column of the polygons' file that says the class. Without it, the one called class, label or name, or the only
    one of texts."""
    label_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Smallest share of a window that its class must cover, by polygons or a raster; with less it has no label."""
    label_ignore: list[int] = [255]
    """Numbers of a raster of labels that are no class, beside its nodata value and those below 0."""
    multi_label: bool = False
    """Score several labels a tile, by mAP, even where the CSV file happens to give each file one; where it gives some
    file several, this is so anyway."""
    masks: str | None = None
    """Folder of masks, below the root or beside each folder of images: files of the images' names with a class number
    a pixel. Without it, a folder called masks, labels or annotations beside one called images or img is found."""
    mask_classes: Annotated[list[str], Field(min_length=2, max_length=255)] | None = None
    """Names of the values 0, 1, 2 and so on in masks or in a raster of labels. Without it, and without a card that
    names those of masks, each value is a class of its own; in masks, 255 and values below 0 are none."""
    size: Pixels = 128
    """Side of a tile in pixels. Larger files are resized so that the shorter side fits, then cropped to the centre."""
    upscale: bool = False
    """Enlarge files that are smaller than the size, instead of listing them as unusable."""
    bad_files: Share = 0.05
    """Largest share of unusable files. With more, the run stops before training."""
    nodata: Share = 0.5
    """Largest share of nodata pixels that a tile may have. Files with more, as at a scene's border, are left out."""
    nodata_files: Share = 0.5
    """Largest share of files left out for their nodata, which is apart from bad_files. With more, the run stops."""
    fill: Value | None = None
    """Value that stands for no data in files that do not say so themselves, such as -9999. check names one that seems
    to."""
    scenes: ScenesSettings | None = None
    """Cut every file into windows, each a tile; without it, each file is shrunk to one tile."""
    symmetry: Literal["none", "flip", "dihedral"] = "dihedral"
    """What leaves a tile's meaning unchanged: nothing, left-right flips, or all flips and right-angle turns."""
    split: SplitSettings = SplitSettings()
    synthetic: SyntheticScenesSettings | None = None
    """Draw this imagery into an empty root first."""
    store: StoreSettings | None = None
    """Train on packed tiles in object storage."""

    @property
    def mask_band(self) -> int | None:
        """Number of the band of a scene, from 1, that is a mask of clouds and none of the tiles."""
        return self.scenes.cloud.band if self.scenes and self.scenes.cloud else None

    @property
    def labels_on_ground(self) -> bool:
        """Whether labels are those of polygons or of a raster."""
        return self.labels is not None and self.labels.lower().endswith((*POLYGONS, *RASTERS))

    @property
    def labels_beside(self) -> str | None:
        """End of the names of files of labels, if each scene has its own beside it."""
        return self.labels[1:] if self.labels and self.labels_on_ground and self.labels[0] == "*" else None

    @field_validator("root")
    @classmethod
    def _local(cls, root: str) -> str:
        if root.startswith("/vsi") or re.match(r"\w+://", root):
            raise ValueError(
                f"{root} is an address. data.root is a folder of this machine: name the files themselves in "
                f"data.scenes.remote, or fetch them first"
            )
        return root

    @model_validator(mode="after")
    def _windows(self) -> "DataSettings":
        if self.scenes and self.synthetic:
            raise ValueError("scenes and synthetic exclude one another: what is drawn are tiles")
        if self.scenes and self.scenes.overlap >= self.scenes.side(self.size):
            side = self.scenes.side(self.size)
            raise ValueError(f"scenes.overlap {self.scenes.overlap} must be less than a window, which has {side} px")
        return self

    @model_validator(mode="after")
    def _ground(self) -> "DataSettings":
        polygons = self.labels is not None and self.labels.lower().endswith(POLYGONS)
        if self.labels_on_ground:
            what = "polygons" if polygons else "a raster"
            if not self.scenes:
                raise ValueError(
                    f"labels names {what}, which label windows of scenes: set scenes.tile, the side of one"
                )
            if self.multi_label:
                raise ValueError(f"multi_label and labels from {what} exclude each other: a window has one class")
            if self.labels_beside is not None and ("/" in self.labels_beside or self.labels_beside.startswith(".")):
                raise ValueError(f'labels for each scene are the end of a name, "*_labels.tif", not {self.labels!r}')
        if self.scenes and self.scenes.remote and self.labels_beside is not None:
            raise ValueError("labels beside each scene are files of this machine, and scenes.remote names others")
        for key, of, needed in (
            ("label_column", "polygons", polygons),
            ("label_share", "polygons or a raster", self.labels_on_ground),
            ("label_ignore", "a raster", self.labels_on_ground and not polygons),
        ):
            if not needed and getattr(self, key) != DataSettings.model_fields[key].default:
                raise ValueError(f"{key} is for labels from {of}: name their file in labels")
        if self.mask_classes and self.scenes and self.labels and (polygons or not self.labels_on_ground):
            raise ValueError("mask_classes names numbers of masks or of a raster of labels: leave it out")
        return self

    @model_validator(mode="after")
    def _whole(self) -> "DataSettings":
        if self.quicklook and len(self.quicklook) == 2:
            raise ValueError("quicklook takes three bands, or one for grey")
        if self.multi_label and self.labels is None:
            raise ValueError("multi_label needs labels, a CSV file: folders give each tile one label")
        if self.masks is not None and self.labels is not None:
            raise ValueError("masks and labels exclude each other: a tile has a mask, or labels from the CSV file")
        if self.masks is not None and (Path(self.masks).is_absolute() or ".." in Path(self.masks).parts):
            raise ValueError("masks is a folder below data.root or beside the images, such as masks: no absolute path")
        if self.mask_classes and len(set(self.mask_classes)) != len(self.mask_classes):
            raise ValueError("mask_classes must not repeat")
        return self


class Card(Section):
    """Description of a data set: source, licence and layout. A card contains no imagery."""

    name: str
    title: str
    source: str
    licence: str
    layout: Literal["stated", "recognised"] = "stated"
    """Whether folders give the splits and classes that stand here and no others, or those that they give without a
    card."""
    bands: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the bands, in the order in the files. Without it, data.bands or the files say them."""
    splits: dict[Literal["train", "valid", "test"], str] | None = None
    """Folder of each given split below the root. Without it, tiles are split by the recipe's shares."""
    classes: list[str] | Literal["folders"] | None = None
    """Class folders in label order, or ``folders`` for all of them by name; with data.masks, names of the values 0, 1
    and so on. Without it, tiles are unlabelled."""
    notes: str = ""
    """What a reader of results should know, for example that the classes come from different places."""

    @model_validator(mode="after")
    def _layout(self) -> "Card":
        if self.layout == "recognised" and (self.splits is not None or self.classes == "folders"):
            key = "splits" if self.splits is not None else "classes"
            raise ValueError(
                f"{key} state a layout, and layout: recognised leaves it to the folders. Take one of them out"
            )
        return self

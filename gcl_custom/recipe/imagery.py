"""The grammar of the section ``data``, and of a data set's card."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gcl_custom.recipe.section import Section, Share

# ---------------------------------------------------------------- imagery


class SyntheticScenesSettings(Section):
    """Imagery made on the spot, for a first run without any download. It is synthetic, and every page says so."""

    tiles: Annotated[int, Field(ge=20)] = 1200
    """Number of GeoTIFF scenes to draw, one tile each, spread evenly over the classes."""
    pixels: Annotated[int, Field(ge=16)] = 64
    """Side of a scene, in pixels."""
    near_infrared: bool = False
    """Four bands of uint16 (reflectance times 10,000) in place of red, green and blue of uint8."""
    seed: int = 0
    """Seed of the drawing."""


class SplitSettings(Section):
    """How tiles are divided where the folders do not already say so."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Share of the tiles to train on."""
    valid: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tiles to choose settings on."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tiles to score. The three shares sum to 1."""
    seed: int = 0
    """Of the random split; kept apart from the run's seed so that seeds share one test split."""

    @model_validator(mode="after")
    def _whole(self) -> "SplitSettings":
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            raise ValueError(f"train + valid + test must be 1, not {self.train + self.valid + self.test:g}")
        return self


class DataSettings(Section):
    """Where the imagery lies and how it becomes tiles."""

    root: str
    """Folder of images, relative to the current folder: flat, class folders, or split folders."""
    card: str | None = None
    """Name of a card in datasets/, or the path of one of your own; without it the layout is recognised."""
    labels: str | None = None
    """CSV file below the root with a row a file: columns file, labels (names separated by ;) and, if wanted, split.
    Without it, folders say the classes."""
    multi_label: bool = False
    """Score several labels a tile, by mAP, even where the CSV file happens to give each file one; where it gives some
    file several, this is so anyway."""
    size: Annotated[int, Field(ge=16, le=1024, multiple_of=8)] = 128
    """Side of a tile in pixels; larger files are resized, the shorter side first, then cropped in the centre."""
    upscale: bool = False
    """Enlarge files smaller than the size, instead of listing them as unusable."""
    bad_files: Share = 0.05
    """Share of unusable files above which the run stops before training."""
    nodata: Share = 0.5
    """Share of nodata pixels above which a file is unusable."""
    symmetry: Literal["none", "flip", "dihedral"] = "dihedral"
    """What leaves the meaning of a tile unchanged: nothing, left-right flips, or all flips and right-angle turns."""
    split: SplitSettings = SplitSettings()
    synthetic: SyntheticScenesSettings | None = None
    """Draw this imagery into an empty root before anything else."""

    @model_validator(mode="after")
    def _label_file(self) -> "DataSettings":
        if self.multi_label and self.labels is None:
            raise ValueError("multi_label needs labels, a CSV file: folders give each tile one label")
        return self


class Card(Section):
    """A data set, described: source, licence and layout. Never imagery."""

    name: str
    title: str
    source: str
    licence: str
    bands: list[str]
    splits: dict[Literal["train", "valid", "test"], str] | None = None
    """Folder of each given split below the root; without it the tiles are split by the recipe's shares."""
    classes: list[str] | Literal["folders"] | None = None
    """Class folders, in label order; ``folders``: all that there are, by name. Without it the tiles are unlabelled."""
    notes: str = ""
    """What a reader of results should know, such as a difference of place between the classes."""

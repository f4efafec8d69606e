"""The whole grammar of a recipe: strict models, loading, ``--set`` overrides and the messages for mistakes.

Defaults stand once, here, with their unit and bounds. Nothing heavy is imported.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gcl_custom.errors import RecipeError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """A part of a recipe: typed strictly, unknown keys forbidden, unchanging once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


# ---------------------------------------------------------------- imagery


class SyntheticScenes(Section):
    """Imagery made on the spot, for a first run without any download. It is synthetic, and every page says so."""

    tiles: Annotated[int, Field(ge=20)] = 1200
    """Number of GeoTIFF scenes to draw, one tile each, spread evenly over the classes."""
    pixels: Annotated[int, Field(ge=16)] = 64
    """Side of a scene, in pixels."""
    near_infrared: bool = False
    """Four bands of uint16 (reflectance times 10,000) in place of red, green and blue of uint8."""
    seed: int = 0


class Split(Section):
    """How tiles are divided where the folders do not already say so."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.7
    valid: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15
    seed: int = 0
    """Of the random split; kept apart from the run's seed so that seeds share one test split."""

    @model_validator(mode="after")
    def _whole(self) -> "Split":
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            raise ValueError(f"train + valid + test must be 1, not {self.train + self.valid + self.test:g}")
        return self


class Data(Section):
    """Where the imagery lies and how it becomes tiles."""

    root: str
    """Folder of images, relative to the current folder: flat, class folders, or split folders."""
    card: str | None = None
    """Name of a card in datasets/, or the path of one of your own; without it the layout is recognised."""
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
    split: Split = Split()
    synthetic: SyntheticScenes | None = None
    """Draw this imagery into an empty root before anything else."""


class Card(Section):
    """A data set, described: source, licence and layout. Never imagery."""

    name: str
    title: str
    source: str
    licence: str
    bands: list[str]
    splits: dict[Literal["train", "valid", "test"], str] | None = None
    """Folder of each given split below the root; without it the tiles are split by the recipe's shares."""
    classes: list[str] | None = None
    """Class folders, in label order; without it the tiles are unlabelled."""
    notes: str = ""
    """What a reader of results should know, such as a difference of place between the classes."""


# ---------------------------------------------------------------- generator


class EfficientNetLite0(Section):
    name: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    weight: Positive = 0.5
    """Beside L1: more lowers the feature distance of reconstructions and their PSNR."""


class Vgg16(Section):
    name: Literal["vgg16"]
    weights: str
    """Path of torchvision's vgg16 weights (a .pth state dict) on this machine."""
    weight: Positive = 0.5


class WithoutNetwork(Section):
    """Multi-scale SSIM and gradients: needs no pretrained network and takes any number of bands."""

    name: Literal["none"]
    weight: Positive = 0.03


Perceptual = Annotated[EfficientNetLite0 | Vgg16 | WithoutNetwork, Field(discriminator="name")]


class Tokenizer(Section):
    """The VQGAN: encoder, quantizer, decoder and its losses."""

    epochs: Count = 300
    batch: Count = 32
    learning_rate: Positive = 4e-4
    codes: Annotated[int, Field(ge=2, le=65536)] = 1024
    code_width: Count = 32
    """Length of a code."""
    pixels_per_token: Literal[4, 8, 16] = 8
    """Side, in pixels, of the square that one token stands for."""
    channels: Annotated[int, Field(ge=16, multiple_of=16)] = 128
    """Width of the networks at the resolution of the tokens."""
    blocks: Count = 4
    """Residual blocks at each of two resolutions, the tokens' and twice that, in the encoder and in the decoder."""
    codebook: Literal["ema", "gradient"] = "ema"
    commitment: Positive = 0.25
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    revive_after: Count = 200
    """Training steps without use after which a code is moved to a live feature."""
    perceptual: Perceptual = EfficientNetLite0()
    adversary_start: Share = 0.5
    """Share of the run after which the discriminator joins; 1 trains without it."""
    adversary_warmup: Share = 0.1
    """Share of the run over which its weight then grows from 0."""
    adversary_weight: Annotated[float, Field(ge=0)] = 0.4
    """Of the adversarial loss, before the adaptive factor and the trust in the discriminator."""
    lecam: Annotated[float, Field(ge=0)] = 0.001
    """Weight of the LeCam regulariser of the discriminator."""


class MaskGIT(Section):
    """The label-free transformer that predicts hidden tokens."""

    epochs: Count = 3000
    batch: Count = 48
    learning_rate: Positive = 3e-4
    width: Annotated[int, Field(ge=32, multiple_of=32)] = 512
    depth: Count = 12
    heads: Count = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Of the weights that are used after training."""

    @model_validator(mode="after")
    def _heads(self) -> "MaskGIT":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self


class Generator(Section):
    tokenizer: Tokenizer = Tokenizer()
    maskgit: MaskGIT = MaskGIT()


class Views(Section):
    """Generative views: made once per tile and kept."""

    per_tile: Annotated[int, Field(ge=1, le=8)] = 1
    mask_probability: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of tokens hidden, each independently."""
    decoding_steps: Annotated[int, Field(ge=1, le=64)] = 12
    order: Literal["confidence", "halton"] = "confidence"
    """Which tokens are kept after a decoding step: the most confident, or the next of the Halton sequence."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Of the Gumbel noise on the confidence; falls linearly to 0 over the steps. 0 is greedy in the order."""
    sampling_temperature: Positive = 1.0
    """Of the distribution that tokens are drawn from."""
    refresh: Annotated[int, Field(ge=0)] = 4
    """Recompute the cached keys and values of visible tokens every so many steps; 0 computes them once, 1 is exact."""
    batch: Count = 64


# ---------------------------------------------------------------- contrastive pretraining


class VICReg(Section):
    name: Literal["vicreg"] = "vicreg"
    invariance: Positive = 25.0
    variance: Positive = 25.0
    covariance: Positive = 1.0
    projector: Annotated[list[Count], Field(min_length=1)] = [2048, 2048, 2048]
    """Widths of the projector's layers."""


class Lars(Section):
    name: Literal["lars"] = "lars"
    learning_rate: Positive = 0.2
    """For a batch of 256; scaled linearly with the batch."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-6
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class AdamW(Section):
    name: Literal["adamw"]
    learning_rate: Positive = 1e-3
    """For a batch of 256; scaled linearly with the batch."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4


Optimizer = Annotated[Lars | AdamW, Field(discriminator="name")]


class Handcrafted(Section):
    """The suite of the VICReg paper (arXiv:2105.04906, appendix C.1); band-wise steps where bands are not RGB."""

    crop: tuple[Share, Share] = (0.08, 1.0)
    """Smallest and largest share of the area that a random resized crop keeps."""
    flip: Share = 0.5
    vertical_flip: Share = 0.0
    turn: Share = 0.0
    """Probability of a turn by a random multiple of 90 degrees."""
    jitter: Share = 0.8
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.4
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.4
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    grey: Share = 0.2
    blur: tuple[Share, Share] = (1.0, 0.1)
    """Probability for the first and for the second view."""
    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels of the view."""
    solarise: tuple[Share, Share] = (0.0, 0.2)
    """Probability for the first and for the second view."""

    @field_validator("crop", "blur", "blur_sigma", "solarise", mode="before")
    @classmethod
    def _pair(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _crop(self) -> "Handcrafted":
        if not 0 < self.crop[0] <= self.crop[1]:
            raise ValueError(f"crop must rise from above 0, not {list(self.crop)}")
        if self.blur_sigma[0] > self.blur_sigma[1]:
            raise ValueError(f"blur_sigma must rise, not {list(self.blur_sigma)}")
        return self


class Pretrain(Section):
    backbone: str = "resnet50"
    """Any timm name."""
    stem: Literal["standard", "small"] = "standard"
    """small removes the first max-pooling of a ResNet, for tiles of 64 px and less."""
    method: VICReg = VICReg()
    optimizer: Optimizer = Lars()
    epochs: Count = 100
    warmup: Share = 0.1
    """Share of the run over which the learning rate grows from 0; then it falls by a cosine."""
    batch: Annotated[int, Field(ge=2)] = 256
    crop_size: Annotated[int, Field(ge=16, multiple_of=8)] | None = None
    """Side of a view in pixels; without it, the size of a tile."""
    mixing_rate: Share = 0.75
    """Probability that the second view of a pair is a generative view."""
    anchor: Literal["raw", "reconstructed"] = "raw"
    """What the handcrafted views are cut from: the tile, or the tile as the tokenizer reconstructs it."""
    source: Literal["inpainted", "reconstructed", "raw"] = "inpainted"
    """What stands in for a generative view: the in-painted tile, or, as controls, the reconstructed or the raw one."""
    pairing: list[Literal["crop", "flip", "vertical_flip", "turn", "jitter", "grey", "blur", "solarise"]] = [
        "crop",
        "flip",
    ]
    """The handcrafted augmentations that follow a generative one."""
    handcrafted: Handcrafted = Handcrafted()
    probe_every: Annotated[int, Field(ge=0)] = 10
    """Epochs between online kNN accuracies on the validation tiles, where labels exist; 0 never."""


# ---------------------------------------------------------------- comparison

Arm = Literal["gcl", "handcrafted", "reconstructed", "paired", "supervised"]


class Compare(Section):
    """The verdict: probes, fine-tuning, the supervised baseline, over several seeds."""

    seeds: Annotated[list[int], Field(min_length=1)] = [0, 1, 2]
    arms: list[Arm] = ["gcl", "handcrafted", "reconstructed", "paired", "supervised"]
    """gcl: as the recipe says. handcrafted: mixing rate 0. reconstructed: views without in-painting (p = 0).
    paired: the raw tile with the pairing of generative views. supervised: from scratch."""
    fractions: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)] = [0.01, 0.1]
    """Label fractions for fine-tuning; the supervised baseline is trained at these and at all labels."""
    neighbours: Count = 20
    """k of the kNN accuracy."""
    penalties: Annotated[list[Positive], Field(min_length=1)] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    """L2 penalties of the linear probe to choose from on the validation tiles."""
    learning_rates: Annotated[list[Positive], Field(min_length=1)] = [3e-4, 1e-3]
    """Learning rates (AdamW) of fine-tuning and of the supervised baseline to choose from on the validation tiles."""
    finetune_steps: Count = 1000
    """Training steps of fine-tuning, and of the supervised baseline at the same label fraction."""
    supervised_epochs: Count | None = None
    """Epochs of the supervised baseline on all labels; without it, those of pretraining."""
    batch: Annotated[int, Field(ge=2)] = 64

    @model_validator(mode="after")
    def _gcl_first(self) -> "Compare":
        if "gcl" not in self.arms:
            raise ValueError("arms must contain gcl: the others are compared with it")
        if len(set(self.arms)) != len(self.arms) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("arms and seeds must not repeat")
        return self


class Hardware(Section):
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the device computes in it, fp32 elsewhere."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: Count = 1
    """Processes or GPUs on this machine; more than one trains with DDP."""
    checkpoint_minutes: Positive = 1.0
    """Longest time between two checkpoints; each evaluation writes one too."""


class Recipe(Section):
    """Everything that a run needs to know."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: int = 0
    """Of the generator and the views; the contrastive seeds are compare.seeds."""
    data: Data
    generator: Generator = Generator()
    views: Views = Views()
    pretrain: Pretrain = Pretrain()
    compare: Compare = Compare()
    hardware: Hardware = Hardware()

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        if self.data.size % self.generator.tokenizer.pixels_per_token:
            raise ValueError(
                f"data.size {self.data.size} must be a multiple of generator.tokenizer.pixels_per_token "
                f"{self.generator.tokenizer.pixels_per_token}"
            )
        if self.data.size // self.generator.tokenizer.pixels_per_token < 2:
            raise ValueError("a tile must have at least 2 by 2 tokens: raise data.size or lower pixels_per_token")
        return self


# ---------------------------------------------------------------- reading


class _Loader(yaml.SafeLoader):
    """Safe YAML that takes 1e-3 as a number and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf)$"
    ),
    list("-+0123456789."),
)


def parse_yaml(text: str, where: str) -> Any:
    """Plain Python values from safe YAML; ``where`` names the source in the message of a RecipeError."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  a subclass of SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise RecipeError(f"{place}: not valid YAML: {getattr(error, 'problem', error)}") from None


def shipped(kind: Literal["recipes", "datasets"]) -> dict[str, Path]:
    """Name -> path of the recipes or cards that ship with the package."""
    packaged = Path(str(resources.files("gcl_custom"))) / kind
    folder = packaged if packaged.is_dir() else packaged.parent.parent / kind
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a YAML file, or the name of a recipe that ships with the package.
        overrides: ``key.path=value`` texts, the value in YAML, checked like the file.

    Raises:
        RecipeError: listing every mistake at once, each with its place and what is allowed.
    """
    path = Path(path)
    known = shipped("recipes")
    if not path.exists() and str(path) in known:
        path = known[str(path)]
    if not path.is_file():
        close = difflib.get_close_matches(path.stem, known, n=1)
        hint = f" Did you mean the shipped recipe {close[0]!r}?" if close else " See: gcl-custom recipes list"
        raise RecipeError(f"There is no recipe file {path}.{hint}")
    values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections, not {type(values).__name__}")
    values.setdefault("name", path.stem)
    for override in overrides:
        _override(values, override)
    return check_values(Recipe, values, str(path))


def load_card(name: str) -> Card:
    """A data set's card by shipped name or by path."""
    path = shipped("datasets").get(name, Path(name))
    if not path.is_file():
        raise RecipeError(
            f"data.card: there is no card {name!r}. Shipped: {', '.join(shipped('datasets'))}; or give a path"
        )
    return check_values(Card, parse_yaml(path.read_text(encoding="utf-8"), str(path)), str(path))


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML that load_recipe reads back to an equal one."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _override(values: dict[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise RecipeError(f"--set {text!r}: write it as key.path=value, such as --set pretrain.epochs=10")
    *parents, last = key.split(".")
    here = values
    for parent in parents:
        here = here.setdefault(parent, {})
        if not isinstance(here, dict):
            raise RecipeError(f"--set {text!r}: {parent} is a value, not a section")
    here[last] = parse_yaml(value, f"--set {text}")


def check_values(model: type[S], values: object, where: str) -> S:
    """Validate whole, or raise one RecipeError with every mistake."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(model, values, mistake) for mistake in error.errors()]
        count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        raise RecipeError(f"{where}: {count}\n" + "\n".join(f"  - {line}" for line in lines)) from None


def _explain(model: type[Section], values: object, mistake: Any) -> str:
    place = [part for part in mistake["loc"] if not _is_tag(part, mistake["loc"], values)]
    name = ".".join(str(part) for part in place) or "the recipe"
    kind = mistake["type"]
    if kind == "extra_forbidden":
        section = _section_at(model, mistake["loc"][:-1])
        allowed = sorted(section.model_fields) if section else []
        close = difflib.get_close_matches(str(place[-1]), allowed, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"allowed here: {', '.join(allowed)}"
        return f"{name}: unknown key; {hint}"
    if kind == "missing":
        return f"{name}: missing; it has no default, so give a value"
    if kind == "value_error":
        return f"{name}: {mistake['ctx']['error']}"
    given = mistake["input"]
    shown = "" if isinstance(given, dict) else f"given {given!r}; "
    message = mistake["msg"][0].lower() + mistake["msg"][1:]
    if kind == "literal_error" and isinstance(given, str):
        close = difflib.get_close_matches(given, re.findall(r"'([^']*)'", mistake["ctx"]["expected"]), n=1)
        message += f"; did you mean {close[0]!r}?" if close else ""
    return f"{name}: {shown}{message}"


def _is_tag(part: object, loc: tuple[Any, ...], values: object) -> bool:
    """Whether part of an error's place is the tag of a union, which does not stand in the file as a key."""
    here = values
    for step in loc:
        if isinstance(here, dict) and step not in here and here.get("name") == step:
            return part == step
        here = here[step] if isinstance(here, (dict, list)) and _holds(here, step) else None
    return False


def _holds(container: dict[Any, Any] | list[Any], step: object) -> bool:
    if isinstance(container, dict):
        return step in container
    return isinstance(step, int) and step < len(container)


def _section_at(model: type[Section], loc: tuple[Any, ...]) -> type[Section] | None:
    """The section that a place leads to, through optional values and tagged unions."""
    here: type[Section] = model
    candidates: list[type[Section]] = [model]
    for step in loc:
        tagged = [
            c for c in candidates if "name" in c.model_fields and step in get_args(c.model_fields["name"].annotation)
        ]
        if tagged:
            candidates = tagged
        else:
            annotations = [c.model_fields[step].annotation for c in candidates if step in c.model_fields]
            candidates = [section for annotation in annotations for section in _sections_in(annotation)]
        if not candidates:
            return None
        here = candidates[0]
    return here


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, list, tuple) or get_args(annotation):
        for argument in get_args(annotation):
            yield from _sections_in(argument)

"""Stage: the backbone of a run -> a file or folder that other software reads.

The output is read back by that software before it takes its name, and must give the representations of the run's own
network. For timm they are compared in float64, where equal weights and equations differ by rounding of 1e-15 only. For
ONNX they are compared in float32, because its runtime adds in another order.
"""

import copy
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor, nn

from gcl_custom import console
from gcl_custom.errors import UserError
from gcl_custom.export import backbone_of_run
from gcl_custom.export.backbone_of_run import TrainedBackbone
from gcl_custom.export.model_card import model_card
from gcl_custom.files import require_free, write_atomically, write_json, write_text
from gcl_custom.machine_faults import writing
from gcl_custom.pretraining.backbones import within
from gcl_custom.runs.run import Run
from gcl_custom.weights.starts import Normalisation

TOLERANCE = 1e-5
ONNX_TOLERANCE = 1e-4
ONNX_NEEDS = ("onnx", "onnxscript", "onnxruntime")
ONNX_BYTES = 2**31 - 2**24
"""Number of bytes of weights that fit into one file: a protobuf message holds 2 GiB."""


def export(run: Run, to: str, out: Path, arm: str = "gcl", seed: int | None = None, overwrite: bool = False) -> None:
    """Write the backbone of a pretraining to ``out``.

    Args:
        to: one of the FORMATS.
        arm, seed: which pretraining, as ``find_pretraining`` takes them.
        overwrite: replace what is at ``out``.

    Raises:
        UserError: there is no such format or backbone, ``out`` exists, the format cannot hold this network or needs
            packages that are missing, or the output gives other representations.
    """
    if to == "torchvision":
        raise UserError(
            "--to torchvision: use --to timm. timm's ResNets load in torchvision as they are, into a network whose fc "
            "is torch.nn.Identity(); most other architectures have other names there, or do not exist"
        )
    if to not in FORMATS:
        raise UserError(f"--to {to}: there is no such format. There are: {', '.join(FORMATS)}")
    require_free(out, overwrite, folder=to == "huggingface")
    known = backbone_of_run.load_backbone(run, arm, seed)
    lines = FORMATS[to](known, out)
    console.say(
        f"wrote {out}: {known.architecture} ({known.arm}, seed {known.seed}), checked against the run's network"
    )
    console.say("\n".join(["Python that loads it:", "", *lines, ""]))
    console.say(f"input:  {known.input}")


def to_timm(known: TrainedBackbone, out: Path) -> list[str]:
    """Write safetensors with timm's names. Returns the lines of Python that load them."""
    options = "".join(f", {name}={value}" for name, value in known.model_args.items())
    lines = [
        *_imports(known, normalising=known.normalisation is not None),
        "from safetensors.torch import load_file",
        "",
        f'backbone = timm.create_model("{known.architecture}", num_classes=0{options})',
        *_stem_line(known),
        f'backbone.load_state_dict(load_file("{out.name}"))',
        *_normalising(known),
        "backbone.eval()",
    ]
    network = timm.create_model(known.architecture, num_classes=0, **known.model_args)
    with write_atomically(out) as part:
        _save(known, part, lines)
        network.load_state_dict(load_file(part))
        _require_same(known, _with_stem(known, network))
    return lines


def _normalising(known: TrainedBackbone) -> list[str]:
    """The line of Python that puts the normalisation which the weights have seen before the network."""
    seen = known.normalisation
    if seen is None:
        return []
    return [
        f"backbone = torch.nn.Sequential(torchvision.transforms.Normalize({seen.mean}, {seen.deviation}), backbone)"
    ]


def to_huggingface(known: TrainedBackbone, out: Path) -> list[str]:
    """Write a folder with weights, timm's config.json and a model card. Returns the lines of Python that load it.

    In a folder that exists, these three files are replaced and everything else stays. As everywhere in timm, the
    normalisation is part of the transform and stands in the config.

    Raises:
        UserError: the stem is small, which no config.json can say.
    """
    _require_plain(known, "huggingface")
    out = Path(os.path.abspath(out))  # the folder "." has no name of its own
    normalised = known.normalisation is not None
    lines = [
        *_imports(known),
        "",
        f'backbone = timm.create_model("local-dir:{out.name}", pretrained=True)  # or hf-hub:OWNER/NAME',
        *(["# It takes tiles normalised by pretrained_cfg, as timm.data.create_transform makes them."] * normalised),
        "backbone.eval()",
    ]
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        _save(known, part / "model.safetensors", lines)
        write_json(part / "config.json", _config(known))
        write_text(part / "README.md", model_card(known, lines))
        _require_same(known, timm.create_model(f"local-dir:{part}", pretrained=True))
        if not out.exists():
            os.replace(part, out)
        else:
            for path in sorted(part.iterdir()):
                os.replace(path, out / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return lines


def to_torchgeo(known: TrainedBackbone, out: Path) -> list[str]:
    """Write a checkpoint for the argument ``weights`` of torchgeo's trainers. Returns the lines that train from it.

    torchgeo builds timm's network by the name among the hyper-parameters, and takes the tensors below ``model.``.

    Raises:
        UserError: torchgeo would build another network by that name, or cannot load weights into it.
    """
    _require_plain(known, "torchgeo")
    if len(known.model_args) > 1:
        raise UserError(
            f"--to torchgeo: torchgeo builds {known.architecture} for tiles of one size, and cannot give it these "
            f"tiles of {known.store.size} px. Use --to timm"
        )
    *_, last = timm.create_model(known.architecture, num_classes=2).children()
    if not hasattr(last, "out_features"):
        raise UserError(
            f"--to torchgeo: torchgeo's trainers take weights only where a network's last part is a linear layer, and "
            f"that of {known.architecture} is a {type(last).__name__}. Use --to timm"
        )
    seen = known.normalisation
    lines = [
        "from torchgeo.trainers import ClassificationTask",
        "",
        "# num_classes: as many as your task has",
        f'task = ClassificationTask(model="{known.architecture}", weights="{out.name}", '
        f"in_channels={known.store.bands}, num_classes=10)",
        *([f"# It takes tiles less the mean {seen.mean}, over the deviation {seen.deviation}."] if seen else []),
    ]
    state = {f"model.{name}": value.contiguous() for name, value in within(known.network).state_dict().items()}
    about = known.about() | {"how_to_load": "\n".join(lines)}
    with write_atomically(out) as part:
        torch.save({"hyper_parameters": {"model": known.architecture}, "state_dict": state, "about": about}, part)
        read = torch.load(part, map_location="cpu", weights_only=True)["state_dict"]
        network = timm.create_model(known.architecture, num_classes=0, in_chans=known.store.bands)
        network.load_state_dict({name.removeprefix("model."): value for name, value in read.items()})
        _require_same(known, network)
    return lines


def _require_plain(known: TrainedBackbone, to: str) -> None:
    """Refuse a network that other software would build otherwise by its name, and then load without a complaint."""
    if known.small_stem:
        raise UserError(
            f"--to {to}: this backbone has a small stem (pretrain.stem), and timm has no {known.architecture} without "
            f"max-pooling: by the name alone timm, transformers and torchgeo would build another network and load the "
            f"weights into it without a word. Use --to timm or --to onnx, gcl_custom.load, or pretrain with "
            f"pretrain.stem: standard"
        )


def to_onnx(known: TrainedBackbone, out: Path) -> list[str]:
    """Write an ONNX model from tiles (batch c h w) to representations (batch d), for any batch size.

    Returns:
        The lines of Python that run it.

    Raises:
        UserError: a package is missing, there are too many weights, or torch cannot export this network.
    """
    if missing := [name for name in ONNX_NEEDS if find_spec(name) is None]:
        raise UserError(
            f"--to onnx needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed. "
            f"Run: pip install 'gcl-custom[onnx]', or pip install {' '.join(ONNX_NEEDS)}"
        )
    weights = sum(value.nbytes for value in known.network.state_dict().values())
    if weights > ONNX_BYTES:
        raise UserError(f"{known.architecture} has {weights / 2**30:.1f} GiB of weights; one ONNX file holds 2 GiB")
    lines = [
        "import onnxruntime",
        "",
        f"# tiles: a numpy array of float32, (batch, {known.store.bands}, {known.store.size}, {known.store.size})",
        f'session = onnxruntime.InferenceSession("{out.name}")',
        '(representations,) = session.run(None, {"tiles": tiles})',
    ]
    tiles = known.tiles()
    try:
        program = torch.onnx.export(
            known.network, (tiles,), dynamo=True, verbose=False, input_names=["tiles"],
            output_names=["representations"], dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"torch {torch.__version__} cannot export {known.architecture} to ONNX: {reason}") from None
    assert program is not None, "torch returns a program unless it writes a file itself"
    program.model.metadata_props.update(known.about() | {"how_to_load": "\n".join(lines)})
    with write_atomically(out) as part:
        program.save(part)
        for batch in (tiles, tiles[:1]):
            with torch.inference_mode():
                ours = known.network(batch)
            _require_close(ours, _run_onnx(part, batch), ONNX_TOLERANCE, "onnxruntime")
    return lines


FORMATS: dict[str, Callable[[TrainedBackbone, Path], list[str]]] = {
    "timm": to_timm,
    "onnx": to_onnx,
    "huggingface": to_huggingface,
    "torchgeo": to_torchgeo,
}


def _imports(known: TrainedBackbone, normalising: bool = False) -> list[str]:
    lines = ["import timm"]
    if known.small_stem or normalising:
        lines.append("import torch")
    return [*lines, "import torchvision"] if normalising else lines


def _stem_line(known: TrainedBackbone) -> list[str]:
    line = 'backbone.set_submodule("maxpool", torch.nn.Identity())  # pretrain.stem: small'
    return [line] if known.small_stem else []


def _with_stem(known: TrainedBackbone, network: nn.Module) -> nn.Module:
    if known.small_stem:
        network.set_submodule("maxpool", nn.Identity())
    return network


def _config(known: TrainedBackbone) -> dict[str, object]:
    """timm's description of a network and of its transforms, which turn an image into what the weights have seen."""
    bands, size = known.store.bands, known.store.size
    shipped: Any = within(known.network).pretrained_cfg
    # By these names timm leaves out a classifier of another size, and adapts the first layer to other bands.
    # Older versions of timm adapt to anything but three bands, even where the weights have them, and then begin the
    # layer anew: so it is named for three bands alone.
    parts = {"classifier": shipped["classifier"], "first_conv": shipped["first_conv"] if bands == 3 else None}
    seen = known.normalisation or Normalisation([0.0] * bands, [1.0] * bands)
    # It sets the size of the position embedding, which timm would take from the config of its own weights.
    built_for = {"img_size": shipped["input_size"][-1]} if shipped["fixed_input_size"] else {}
    return {
        "architecture": known.architecture,
        "num_classes": 0,
        "num_features": known.width,
        "pretrained_cfg": {
            "input_size": [bands, size, size],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": seen.mean,
            "std": seen.deviation,
            "num_classes": 0,
            **parts,
            "custom_load": False,
        },
        "model_args": built_for | known.model_args,
    }


def _save(known: TrainedBackbone, path: Path, lines: list[str]) -> None:
    about = {"format": "pt", **known.about(), "how_to_load": "\n".join(lines)}
    # Written as bytes, because safetensors makes files that only their owner can read, and these are to be passed on.
    state = within(known.network).state_dict()
    content = save({name: value.contiguous() for name, value in state.items()}, about)
    with writing(path, size=len(content)):
        path.write_bytes(content)


def _require_same(known: TrainedBackbone, other: nn.Module) -> None:
    ours, theirs = copy.deepcopy(within(known.network)).double(), other.eval().double()
    tiles = known.tiles().double()
    with torch.inference_mode():
        _require_close(ours(tiles), theirs(tiles), TOLERANCE, type(other).__module__.partition(".")[0])


def _require_close(ours: Float[Tensor, "b d"], theirs: Float[Tensor, "b d"], tolerance: float, reader: str) -> None:
    if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance):
        apart = f"by up to {(ours - theirs).abs().max():.2g}" if ours.shape == theirs.shape else "even in shape"
        raise UserError(
            f"The network as {reader} reads it gives representations that differ {apart}, so nothing was written. "
            f"Another version of {reader} may have changed this architecture; try another format with --to"
        )


def _run_onnx(path: Path, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
    import onnxruntime  # an optional extra

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"tiles": np.ascontiguousarray(tiles.numpy())})
    return torch.from_numpy(found)

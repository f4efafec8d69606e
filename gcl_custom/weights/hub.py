"""Load models of the Hugging Face hub from a folder or from the client's cache, without a network or a pickle.

A pipeline of diffusers is a folder with ``model_index.json`` and one folder for each part, such as ``unet/``. A model
of transformers is one folder. All parts are looked for before any is read. Networks are read part by part, so that a
message can name the faulty one. A missing tensor is an error; both libraries would fill it with random numbers.
"""

import importlib.util
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from gcl_custom.errors import UserError
from gcl_custom.weights.state_dicts import first_of

INDEX = "model_index.json"
PICKLE, SAFE = "pytorch_model.bin", "model.safetensors"
"""Weights of a model of transformers: the file of older models, and the file that is read."""
NETWORKS = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
    "image_normalizer": (
        "diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer",
        "StableUnCLIPImageNormalizer",
    ),
}
"""Part of a pipeline -> the module and name of its network's class."""
PLAIN = ("scheduler", "tokenizer", "tokenizer_2", "feature_extractor", "image_noising_scheduler")
"""Parts without weights."""
UNUSED = ("safety_checker",)
"""Parts that are not needed to make views."""
FAULTS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)
"""What the two libraries raise for a damaged or unknown folder."""


def require_installed(where: str) -> None:
    """Check that diffusers and transformers are installed. They are an extra of the package.

    Raises:
        UserError: one of them is not installed.
    """
    missing = [name for name in ("diffusers", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{where} needs {' and '.join(missing)}. Run: pip install 'gcl-custom[diffusion]'")


def require_colours(where: str, bands: int) -> None:
    """Check, before any work, that tiles have the three bands that public image models were trained on.

    Raises:
        UserError: the tiles do not have three bands.
    """
    if bands != 3:
        raise UserError(
            f"{where}: this model was trained on red, green and blue, and the tiles' number of bands is {bands}. "
            f"Give files of three bands, or take a generator that is trained on your own tiles"
        )


def local_folder(model: str) -> Path | None:
    """The folder of a model: the given one, or that in the client's cache. Nothing is fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def folder_of(model: str, where: str) -> Path:
    """The folder of a model, as ``local_folder`` finds it.

    Raises:
        UserError: there is none.
    """
    folder = local_folder(model)
    if folder is None:
        raise no_model(model, where)
    return folder


def no_model(model: str, where: str) -> UserError:
    """The error for a missing model."""
    return UserError(
        f"{where}: {model} is no folder (looked for from {Path.cwd()}), and this machine has fetched no model of the "
        f"hub by that name. Where there is a network: gcl-custom weights RECIPE --download. Or copy its folder here "
        f"and give the path"
    )


def load_pipeline(
    kind: str, model: str, where: str, device: torch.device, precision: torch.dtype, **options: Any
) -> Any:
    """A pipeline of diffusers on a device, without progress bars, safety checker or watermark.

    The VAE stays in fp32 if its configuration asks for it, as SDXL's does, which overflows in fp16.

    Args:
        kind: name of the diffusers class that reads the pipeline, such as AutoPipelineForImage2Image.
        model: a folder, or an id of the hub.
        where: the key of the recipe that names the model, for messages.
        options: further arguments of ``from_pretrained``.

    Raises:
        UserError: there is no such model, a part is missing, damaged or of an unknown kind, or weights are pickled.
    """
    require_installed(where)
    folder = folder_of(model, where)
    names = _parts(folder, model, where)
    import diffusers

    with quiet():
        parts: dict[str, Any] = {name: None for name in UNUSED if name in names}
        for name in names:
            if name in NETWORKS:
                network = load_network(*NETWORKS[name], folder / name, f"{model}: its part {name}", where, precision)
                upcast = name == "vae" and precision == torch.float16 and network.config.force_upcast
                parts[name] = network.to(device, torch.float32 if upcast else precision)
        if "text_encoder_2" in names:
            parts["add_watermarker"] = False
        try:
            pipeline = getattr(diffusers, kind).from_pretrained(folder, local_files_only=True, **parts, **options)
        except FAULTS as error:
            raise UserError(f"{where}: {model} is no model for {kind}: {_line(error)}") from None
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.enable_slicing()  # one tile at a time, so that a batch of 512 px needs no more memory than one tile
    return pipeline


def load_network(
    module: str, name: str, folder: Path, what: str, where: str, precision: torch.dtype | None = None
) -> Any:
    """One network of diffusers or transformers, on the CPU, with every tensor from safetensors.

    Args:
        module, name: the module and name of its class.
        folder: the folder with its configuration and weights.
        what: what messages call it.
        where: the key of the recipe that names it, for messages.

    Raises:
        UserError: files or tensors are missing, surplus, damaged or of other shapes.
    """
    weights = _require_weights(folder, what, where)
    halved = [file for file in weights if ".fp16" in file]
    options: dict[str, Any] = {
        "torch_dtype": precision
    }  # diffusers' name for it; its own message gives the shapes that differ
    if module == "transformers":
        options = {"dtype": precision, "ignore_mismatched_sizes": True}  # they are stated below
    if halved and (precision == torch.float16 or len(halved) == len(weights)):
        options["variant"] = "fp16"
    with quiet():
        try:
            network, info = getattr(importlib.import_module(module), name).from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
            )
        except FAULTS as error:
            raise UserError(f"{where}: {what} in {folder} cannot be read as {name}: {_line(error)}{FETCH}") from None
    faults = [f"missing {key}" for key in sorted(info["missing_keys"])]
    faults += [f"surplus {key}" for key in sorted(info["unexpected_keys"]) if not key.endswith("position_ids")]
    faults += [f"{key} is {tuple(found)}, not {tuple(wanted)}" for key, found, wanted in info["mismatched_keys"]]
    if faults:
        raise UserError(f"{where}: {what} in {folder} does not fit {name}: {first_of(faults)}{FETCH}")
    return network.eval().requires_grad_(False)


FETCH = ". Fetch it anew where there is a network: gcl-custom weights RECIPE --download"


def _parts(folder: Path, model: str, where: str) -> list[str]:
    """The names of a pipeline's parts, after a check that every used part is there."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        about = {name: entry for name, entry in index.items() if isinstance(entry, list) and entry[0] is not None}
    except FileNotFoundError:
        raise UserError(f"{where}: {model} is no pipeline of diffusers: {folder} has no {INDEX}{FETCH}") from None
    except (ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{where}: {model}: {folder / INDEX} is damaged ({_line(error)}){FETCH}") from None
    for name, (_, kind) in about.items():
        if name not in (*NETWORKS, *PLAIN, *UNUSED) or (name in NETWORKS and kind != NETWORKS[name][1]):
            raise UserError(
                f"{where}: {model} has a part {name} of class {kind}, which is not read. Stable Diffusion 1, 2 and XL "
                f"are, with the models distilled from them, and Stable unCLIP"
            )
    names = [name for name in about if name not in UNUSED]
    missing = [name for name in names if not (folder / name).is_dir() or not any((folder / name).iterdir())]
    if missing:
        raise UserError(f"{where}: {model} lacks its {', '.join(missing)} in {folder}{FETCH}")
    for name in names:
        if name in NETWORKS:
            _require_weights(folder / name, f"{model}: its part {name}", where)
    return list(about)


def _require_weights(folder: Path, what: str, where: str) -> list[str]:
    """The names of a network's safetensors files."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{where}: {what} has no config.json in {folder}{FETCH}")
    found = [file.name for file in sorted(folder.glob("*.safetensors")) if file.is_file()]
    if not found:
        pickles = [file.name for suffix in ("bin", "pt", "pth", "ckpt") for file in sorted(folder.glob(f"*.{suffix}"))]
        held = f", but pickles, which are not read, since they may run code: {', '.join(pickles)}"
        raise UserError(f"{where}: {what} has no safetensors in {folder}{held if pickles else ''}{FETCH}")
    return found


def _line(error: BaseException) -> str:
    """The first line of a library's message, with the next one after a colon. The advice that follows is left out."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return f"{first} {others[0].strip()}" if others and first.endswith(":") else first


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the bars, advice and warnings of the two libraries. Errors are still raised."""
    import diffusers.utils.logging as of_diffusers
    import transformers.utils.logging as of_transformers

    logs = (of_diffusers, of_transformers)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity(log.CRITICAL)
        log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, (verbosity, bars) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()

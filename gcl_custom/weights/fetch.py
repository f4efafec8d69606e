"""Fetch public weights to the place that a recipe names, or into the hub client's cache, when a user asks for it."""

import os
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gcl_custom.console import say, warn
from gcl_custom.errors import UserError
from gcl_custom.files import write_atomically
from gcl_custom.machine_faults import explained
from gcl_custom.weights import hub
from gcl_custom.weights.catalogue import Public
from gcl_custom.weights.needed import Needed
from gcl_custom.weights.state_dicts import read_state, save_weights


def fetch(need: Needed) -> None:
    """Fetch weights to their place. An interrupted transfer is continued if the client can.

    Raises:
        UserError: there is no network, the hub does not have them, or they must be fetched by hand.
    """
    public = need.public
    if public is None or not need.fetchable:
        raise UserError(f"{need.where}: {need.given} cannot be fetched from here. {by_hand(need)}")
    say(f"{need.where}: {public.title}, licence {public.licence}")
    if not public.commercial:
        warn(f"{public.title} may not be used commercially. Its licence is {public.licence}: read it before you go on")
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # What the client's HTTP library raises without a network. Versions of the client use different libraries.
    transport = [base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError"]
    faults: tuple[type[BaseException], ...] = (
        HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError, RuntimeError,
        tarfile.TarError, *transport,
    )  # fmt: skip
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"{need.where}: HF_HUB_OFFLINE is set, so nothing is fetched. Unset it where there is a network, or copy "
            f"the weights to {need.given} from a machine that has them"
        )
    try:
        if need.folder:
            _folder(public.repository, need)
        elif public.repository:
            _from_hub(public, Path(need.given).expanduser())
        else:
            _from_url(public, Path(need.given).expanduser())
    except faults as error:
        if isinstance(error, OSError) and (reason := explained(error)):  # of this machine, not of the network
            raise UserError(f"{need.where}: {public.name} could not be fetched: {reason}") from None
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{need.where}: {public.name} could not be fetched: {lines[0]} Is there a network? Without one, copy the "
            f"weights to {need.given} from a machine that has them"
        ) from None


def by_hand(need: Needed) -> str:
    """The command that fetches weights, or where to look for them."""
    public = need.public
    if public is None:
        return f"Put your own file at {need.given}, or name another in the recipe"
    if public.page:
        return f"{public.page} leads to its file; put it at {need.given}"
    if not need.exact:
        return f"Put it at {need.given}; {public.title} is known as {public.name}"
    if need.folder:
        return f"hf download {public.repository}" + ("" if need.on_hub else f" --local-dir {need.given}")
    folder = Path(need.given).parent
    if public.member:
        return f"curl -LO {public.url}, unpack it and put {public.member} at {need.given}"
    if public.repository:
        return f"hf download {public.repository} {public.file} --local-dir {folder}"
    return f"curl --create-dirs -Lo {need.given} {public.url}"


def _from_hub(public: Public, path: Path) -> None:
    from huggingface_hub import hf_hub_download

    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.download")  # always the same, so that the client can continue
    got = Path(hf_hub_download(public.repository, public.file, local_dir=place))
    os.replace(got, path)
    shutil.rmtree(place)


def _unpack(archive: Path, public: Public, path: Path) -> None:
    """Write the one wanted file of an archive, in whichever folder it is there."""
    with tarfile.open(archive) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if PurePosixPath(entry.name).name == public.member else None
            if content:
                with write_atomically(path) as part, part.open("wb") as file:
                    shutil.copyfileobj(content, file)
                return
    raise OSError(f"{Path(public.url).name} holds no {public.member}.")


def _from_url(public: Public, path: Path) -> None:
    from torch.hub import download_url_to_file

    path.parent.mkdir(parents=True, exist_ok=True)
    if not public.member:
        download_url_to_file(public.url, str(path), hash_prefix=public.sha256 or None)
        return
    archive = path.with_name(f".{path.name}.archive")
    try:
        download_url_to_file(public.url, str(archive), hash_prefix=public.sha256 or None)
        _unpack(archive, public, path)
    finally:
        archive.unlink(missing_ok=True)


def _folder(repository: str, need: Needed) -> None:
    from huggingface_hub import HfApi, snapshot_download

    chosen = wanted(HfApi().list_repo_files(repository))
    place = snapshot_download(repository, allow_patterns=chosen, local_dir=None if need.on_hub else need.given)
    if hub.PICKLE in chosen:
        as_safetensors(Path(place), need)


def as_safetensors(folder: Path, need: Needed) -> None:
    """Write the weights of a model of transformers as safetensors if the folder has only a pickle.

    Raises:
        UserError: the pickle holds more than tensors, or is damaged.
    """
    if (folder / hub.PICKLE).is_file() and not any(folder.glob("*.safetensors")):
        save_weights(folder / hub.SAFE, read_state(folder / hub.PICKLE, need.where))


def wanted(files: Sequence[str]) -> list[str]:
    """The files of a repository that are read: safetensors and plain text, in fp16 if there is a choice.

    A pipeline of diffusers may also have one file with all its parts, which is left out. A pickle is chosen only for a
    model of transformers that has nothing else, such as BLIP's; only tensors are taken out of it.
    """
    pipeline, chosen = hub.INDEX in files, []
    for file in files:
        part, _, name = file.rpartition("/")
        if part.split("/")[0] in hub.UNUSED:
            continue
        halved = re.sub(r"(-\d+-of-\d+)?\.safetensors$", r".fp16\1.safetensors", file)
        weights = name.endswith(".safetensors") and pipeline == bool(part) and (halved == file or halved not in files)
        if weights or (name.endswith((".json", ".txt")) and pipeline >= bool(part)):
            chosen.append(file)
    if not pipeline and hub.PICKLE in files and not any(file.endswith(".safetensors") for file in chosen):
        chosen.append(hub.PICKLE)
    return chosen

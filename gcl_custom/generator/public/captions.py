"""Captions of tiles: made once by BLIP, kept in a file, and read by the number of the tile.

BLIP, arXiv:2201.12086. It takes the most likely word at each place, so a tile has one caption.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.machine_faults import writing
from gcl_custom.weights.hub import FAULTS, FETCH, folder_of, load_network, quiet, require_colours, require_installed

MODEL = "Salesforce/blip-image-captioning-base"
LICENCE = "BSD-3-Clause"
LONGEST = 30
"""Most pieces of words in a caption; one of CLIP's prompts holds 77."""


class Captioner:
    """Tiles in [0, 1] to English captions.

    Args:
        model: id on the hub, or a folder.
        where: what messages shall call the place of these settings.
        bands: of the tiles.
        precision: of the network.

    Raises:
        UserError: tiles of other bands, or a model that cannot be read.
    """

    def __init__(
        self, model: str, where: str, *, bands: int, device: torch.device, precision: torch.dtype = torch.float32
    ) -> None:
        require_installed(where)
        require_colours(where, bands)
        folder = folder_of(model, where)
        network = load_network("transformers", "BlipForConditionalGeneration", folder, model, where, precision)
        from transformers import BlipProcessor

        with quiet():
            try:
                self._processor: Any = BlipProcessor.from_pretrained(folder, local_files_only=True)
            except FAULTS as error:
                raise UserError(
                    f"{where}: {model}: its tokenizer or image processor in {folder} is missing or "
                    f"damaged ({type(error).__name__}){FETCH}"
                ) from None
        self.device, self._network, self._precision = device, network.to(device), precision

    @torch.inference_mode()
    def captions(self, tiles: Float[Tensor, "b 3 y x"]) -> list[str]:
        """One caption a tile, without line breaks; it does not depend on the other tiles of the batch."""
        pixels = self._processor.image_processor(
            tiles.to(self.device).float(), do_rescale=False, return_tensors="pt"
        ).pixel_values
        pixels = pixels.to(self.device, self._precision)
        with quiet():
            words = self._network.generate(pixel_values=pixels, max_new_tokens=LONGEST, do_sample=False, num_beams=1)
        return [" ".join(text.split()) for text in self._processor.batch_decode(words, skip_special_tokens=True)]


class CaptionFile:
    """Captions by the number of the tile, in JSON lines: {"tile": 7, "caption": "a lake"}.

    Lines are only appended, and the last line of a tile counts. If a killed process left the last line unfinished, it
    is ignored, and the next ``append`` cuts it off.

    Raises:
        UserError: another line than the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._captions: dict[int, str] = {}
        written = path.read_bytes() if path.is_file() else b""
        self._end = written.rfind(b"\n") + 1
        for number, line in enumerate(written[: self._end].splitlines(), 1):
            try:
                entry = json.loads(line)
                self._captions[int(entry["tile"])] = str(entry["caption"])
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f"{path}, line {number}, is no caption: {line[:80]!r}. Delete the file, and captions are made anew"
                ) from None

    def __len__(self) -> int:
        """Number of tiles that have a caption."""
        return len(self._captions)

    def missing(self, tiles: Int[Tensor, " b"]) -> Int[Tensor, " m"]:
        """Those of some tiles that have no caption yet, in their order."""
        return torch.tensor([tile for tile in tiles.tolist() if tile not in self._captions], dtype=torch.long)

    def append(self, tiles: Int[Tensor, " b"], captions: Sequence[str]) -> None:
        """Add the captions of a block; they are on the disk when this returns."""
        numbers = tiles.tolist()
        lines = [
            json.dumps({"tile": tile, "caption": caption}, ensure_ascii=False) + "\n"
            for tile, caption in zip(numbers, captions, strict=True)
        ]
        with writing(self.path), self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.truncate(self._end)
            file.seek(self._end)
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
            self._end = file.tell()
        self._captions.update(zip(numbers, captions, strict=True))

    def read(self, tiles: Int[Tensor, " b"]) -> list[str]:
        """The captions of tiles.

        Raises:
            UserError: one has none.
        """
        try:
            return [self._captions[tile] for tile in tiles.tolist()]
        except KeyError as error:
            raise UserError(
                f"{self.path} has no caption of tile {error}; training and validation tiles get one. Run: gcl-custom "
                f"fit-generator"
            ) from None

"""A source -> its tile, or the reason why it has none: the one place where packing, check and embed read files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gcl_custom.imagery.decoding import Form, Place, Tile, Unusable, place_of, tile_from
from gcl_custom.imagery.source import Source
from gcl_custom.recipe.imagery import DataSettings

UNREAD = "cannot be opened"


@dataclass(frozen=True)
class ReadTile:
    """What was read for a source; its tile, place and digest are made when they are asked for.

    Attributes:
        content: the bytes of the source's file, or why they cannot be read.
    """

    source: Source
    content: bytes | Unusable
    form: Form
    data: DataSettings

    def tile(self) -> Tile | Unusable:
        if isinstance(self.content, Unusable):
            return self.content
        try:
            return tile_from(
                self.content, self.form, self.data.size, self.data.upscale, self.data.nodata, self.source.window
            )
        except Unusable as problem:
            return problem

    def place(self) -> Place | None:
        """Where the tile lies on earth; ask only where there is a tile."""
        return None if isinstance(self.content, Unusable) else place_of(self.content, self.source.window)

    def digest(self) -> str:
        """Equal for sources that give the same tile: that of the file's bytes, and of the window.

        A file that cannot be opened has one of its own, since the reason belongs to the path, not to a content.
        """
        if isinstance(self.content, Unusable):
            return f"{UNREAD}: {self.source}"
        digest = hashlib.blake2b(self.content, digest_size=16)
        if self.source.window:
            digest.update(str(Source("", self.source.window)).encode())
        return digest.hexdigest()


def read_tile(root: Path, source: Source, form: Form, data: DataSettings) -> ReadTile:
    """Read the file of a source, once and whole."""
    try:
        content: bytes | Unusable = (root / source.path).read_bytes()
    except OSError as error:
        content = Unusable(UNREAD, str(error.strerror))
    return ReadTile(source, content, form, data)

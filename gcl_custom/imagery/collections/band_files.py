"""Files that hold one band each of the same places, by their names: S2_B02.tif beside S2_B03.tif.

A tile is one file with all its bands. Taken file by file, the bands of a place would be tiles of their own, in
different splits, and folders of bands would be classes.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.folder_walk import few

BAND = re.compile(
    r"b\d\d?|b0?8a|band\d\d?|[vh][vh]|red|green|blue|rededge|nir|swir\d?|pan|coastal|cirrus", re.IGNORECASE
)
"""What names a band of Sentinel-2, Landsat, radar or an aerial camera."""
RASTERS = (".tif", ".tiff", ".jp2")


def places(paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """The files of each place, by band. The place's name is their path with * for the band."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        stem, _, suffix = path.rpartition(".")
        parts = re.split(r"([/_. -]+)", stem)
        bands = {part.lower() for part in parts if BAND.fullmatch(part)}
        if len(bands) == 1 and f".{suffix.lower()}" in RASTERS:
            place = "".join("*" if BAND.fullmatch(part) else part for part in parts)
            found[f"{place}.{suffix}"][bands.pop()] = path
    return found


def refuse_band_files(paths: Sequence[str]) -> None:
    """Refuse files that are bands of the same places. Call it where files have one band.

    Raises:
        UserError: nearly all are such, with the same bands for each place; it says how to join them.
    """
    found = places(paths)
    sets = Counter(frozenset(files) for files in found.values())
    bands, count = max(
        sets.items(), key=lambda item: (len(item[0]) * item[1], sorted(item[0])), default=(frozenset(), 0)
    )
    if len(bands) < 2 or not few(len(paths) - count * len(bands), len(paths)):
        return
    place, files = next((place, files) for place, files in found.items() if frozenset(files) == bands)
    names = [files[band] for band in sorted(files)]
    joined = re.sub(r"[_. -]*\*", "", place.rpartition("/")[2]) or "joined.tif"
    raise UserError(
        f"data.root: the files are bands of {count:,} places, such as {', '.join(names)}. A tile is one file with all "
        f"its bands: join those of each place, for example with: rio stack {' '.join(names)} -o {joined}. If each file "
        f"is a tile of its own, name its one band: data.bands"
    )

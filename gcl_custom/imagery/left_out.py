"""What a person reads of sources that are left out, are unusable, or show other than one may think."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from gcl_custom.counted import counted, either, examples, stated
from gcl_custom.imagery.decoding import NODATA, SCENE
from gcl_custom.imagery.source import Source
from gcl_custom.recipe.imagery import DataSettings

CLOUD, SAMENESS = "cloud", "sameness"
"""Kinds of windows of a scene that are left out. As with nodata, nothing is wrong with them."""
LEFT_OUT = (NODATA, CLOUD, SAMENESS)


@runtime_checkable
class Remarkable(Protocol):
    """What a reader should hear of a tile that was made."""

    @property
    def grey(self) -> bool: ...

    @property
    def alpha(self) -> bool: ...

    @property
    def scene(self) -> bool: ...


def remarks(tiles: Iterable[Remarkable], data: DataSettings) -> Iterator[str]:
    """Say of how many tiles something holds that changes what they show."""
    one = "window" if data.scenes else "file"
    counts = Counter(name for tile in tiles for name in ("grey", "alpha", "scene") if getattr(tile, name))
    if count := counts["grey"]:
        yield f"{counted(count, f'greyscale {one}')}: the one band stands for red, green and blue"
    if count := counts["alpha"]:
        yield (
            f"{counted(count, f'{one} has', f'{one}s have')} an alpha band: it is dropped, and what it hides is "
            f"nodata. If it is a band, such as "
            f"near infrared, name all bands (data.bands)"
        )
    if count := counts["scene"]:
        yield (
            f"{counted(count, 'file is', 'files are')} {SCENE} times as large as data.size or more, and each is "
            f"shrunk to one tile. "
            f"data.scenes cuts GeoTIFF and JPEG 2000 into windows instead, each a tile: --set data.scenes.tile=64, for "
            f"example"
        )


def in_kinds(kinds: Iterable[str]) -> str:
    """How many files are unusable for each kind of reason, the most common first. What is left out is no such one."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common() if kind not in LEFT_OUT)


def left_out(kinds: Iterable[str], of: int, data: DataSettings) -> Iterator[str]:
    """Say how many files or windows are left out because they show too little, for each reason."""
    counts, what = Counter(kinds), "windows" if data.scenes else "files"
    reasons = {NODATA: (data.nodata, "hold no data (data.nodata)")}
    if data.scenes:
        reasons[SAMENESS] = data.scenes.sameness, "are as their right neighbours (data.scenes.sameness)"
    if data.scenes and data.scenes.cloud:
        reasons[CLOUD] = data.scenes.cloud.most, "are cloudy (data.scenes.cloud.most)"
    for kind, (most, what_they_are) in reasons.items():
        if counts[kind]:
            one = f"is left out, as more than {stated(most)} of its pixels"
            many = f"are left out, as more than {stated(most)} of their pixels"
            yield f"{counts[kind]:,} of {of:,} {what} {either(counts[kind], one, many)} {what_they_are}"


def without_a_tile(sources: Iterable[Source], usable: Iterable[Source], data: DataSettings) -> str | None:
    """Name scenes of which no window is left; None if there are none."""
    if not data.scenes:
        return None
    gone = sorted({source.path for source in sources} - {source.path for source in usable})
    return f"{counted(len(gone), 'scene')} without a tile: {examples(gone)}" if gone else None


def excess(bad: Sequence[tuple[Source, str]], of: Sequence[Source], data: DataSettings) -> Iterator[str]:
    """Why so many sources without a tile end the run: there are more than the recipe allows of a sort.

    Args:
        bad: the sources that have no tile, and the kind of reason.
        of: all that were read.
    """
    kinds, what = [kind for _, kind in bad], "windows" if data.scenes else "files"
    unusable = [(source, kind) for source, kind in bad if kind not in LEFT_OUT]
    if len(unusable) > data.bad_files * len(of):
        yield (
            f"{len(unusable):,} of {len(of):,} {what} {either(len(unusable), 'is', 'are')} unusable "
            f"({in_kinds(kinds)}); data.bad_files allows "
            f"{stated(data.bad_files)}"
        )
    elif data.scenes:
        whole = [kind for source, kind in unusable if source.window is None]
        scenes = len({source.path for source in of})
        if len(whole) > data.bad_files * scenes:
            yield (
                f"{len(whole):,} of {scenes:,} scenes cannot be cut ({in_kinds(whole)}); data.bad_files allows "
                f"{stated(data.bad_files)}"
            )
    if kinds.count(NODATA) > data.nodata_files * len(of):
        sentence = next(left_out([NODATA] * kinds.count(NODATA), len(of), data))
        yield f"{sentence}; data.nodata_files allows {stated(data.nodata_files)}"

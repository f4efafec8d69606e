"""Labels of windows, from polygons or a raster of class numbers on the same ground.

The class of a window is the one that covers the largest share of it, if that share is large enough. Other windows have
no label, which is the normal case.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from rasterio.errors import RasterioError

from gcl_custom.counted import counted, stated
from gcl_custom.errors import UserError
from gcl_custom.imagery.scenes.grid import Rectangle
from gcl_custom.imagery.scenes.label_raster import RasterLabels, Shares
from gcl_custom.imagery.scenes.opening import NoScene
from gcl_custom.imagery.scenes.polygon_shares import PolygonLabels
from gcl_custom.imagery.scenes.polygons import read_polygons
from gcl_custom.imagery.scenes.remote import located
from gcl_custom.imagery.scenes.scene import Scene, mask_beside, open_raster, open_scene
from gcl_custom.recipe.imagery import POLYGONS, DataSettings, ScenesSettings

TOLERANCE = 1e-6
"""Of shares, whose last digits depend on the projection."""
SHOWN = 8
"""Most classes, or notes on files, that are told."""

Scenes = Mapping[str, Sequence[Rectangle]]
"""The windows of each scene, by its path relative to the root."""


class Labels(NamedTuple):
    by_window: dict[tuple[str, Rectangle], str]
    """The class of each window that has one."""
    classes: list[str]
    """Those of the windows, in label order."""
    notes: list[str]
    """For the user."""

    def of(self, path: str, window: Rectangle | None) -> str | None:
        """The class of a window; None for a scene that could not be cut."""
        return self.by_window.get((path, window)) if window else None


@runtime_checkable
class Layer(Protocol):
    """What says of which class a place is."""

    @property
    def notes(self) -> list[str]: ...

    @property
    def where(self) -> str: ...

    def shares(self, scene: Scene, windows: Sequence[Rectangle]) -> list[Shares] | None: ...


def labels_over(root: Path, scenes: Scenes, data: DataSettings) -> Labels:
    """The labels of windows. They depend on files and settings alone, so packing and check agree.

    Raises:
        UserError: a file of labels cannot be used, or none gives a window a label.
    """
    assert data.labels is not None, "a file of labels is named"
    found, notes, where, alone = _Found(), list[str](), "", list[str]()
    if data.labels_beside is None:
        with _layer(root / data.labels, data) as layer:
            found.add(layer, root, scenes, data.scenes)
            notes, where = layer.notes, layer.where
    else:
        for path, windows in scenes.items():
            beside = mask_beside(root / path, data.labels_beside)
            if not beside.exists():
                alone.append(path)
                continue
            with _layer(beside, data) as layer:
                found.add(layer, root, {path: windows}, data.scenes)
                notes, where = [*notes, *layer.notes], where or layer.where
    if not any(scenes.values()):  # packing will say why
        return Labels({}, [], [])
    if len(alone) == len(scenes):
        raise UserError(
            f"data.labels: no scene has its file {data.labels} beside it; that of {alone[0]} would be "
            f"{mask_beside(Path(alone[0]), data.labels_beside or '')}"
        )
    if not found.shares:
        raise UserError(f"data.labels: {data.labels} has no class in any window of a scene ({where})")
    named = {key: _largest(shares) for key, shares in found.shares.items()}
    labels = {key: name for key, (name, share) in named.items() if share >= data.label_share - TOLERANCE}
    most = max(share for _, share in named.values())
    if not labels:
        raise UserError(
            f"data.labels: classes of {data.labels} lie in {counted(len(named), 'window')}, but none "
            f"covers {stated(data.label_share)} of one: the largest share is {most:.1%}. Lower data.label_share, or "
            f"take smaller windows"
        )
    if len(notes) > SHOWN:
        notes = [*notes[:SHOWN], f"further notes on files of labels: {len(notes) - SHOWN:,}"]
    counts = Counter(labels.values())
    classes = _in_order(counts, data)
    shown = ", ".join(f"{name} {counts[name]:,}" for name in classes[:SHOWN]) + (", ..." if classes[SHOWN:] else "")
    total = sum(map(len, scenes.values()))
    notes.append(f"windows with a label from {data.labels}: {len(labels):,} of {total:,} ({shown})")
    gone = _in_order({name for shares in found.shares.values() for name in shares} - set(counts), data)
    nowhere, without = found.nowhere, "used without a label"
    for what, count, example in (
        (f"windows that no class covers by {stated(data.label_share)}, {without}", len(named) - len(labels), ""),
        ("classes of which no window is, left out", len(gone), gone[:1]),
        (f"scenes without coordinates, {without}", len(nowhere), nowhere[:1]),
        (f"scenes without a file {data.labels}, {without}", len(alone), alone[:1]),
    ):
        if count:
            notes.append(f"{what}: {count:,}{', such as ' if example else ''}{''.join(example)}")
    return Labels(labels, classes, notes)


class _Found:
    """The shares of classes in windows that have any, and the scenes that lie nowhere."""

    def __init__(self) -> None:
        self.shares: dict[tuple[str, Rectangle], Shares] = {}
        self.nowhere: list[str] = []

    def add(self, layer: Layer, root: Path, scenes: Scenes, settings: ScenesSettings | None) -> None:
        assert settings is not None, "windows are of scenes"
        for path, windows in scenes.items():
            try:
                with open_scene(located(root, path, settings), settings) as scene:
                    shares = layer.shares(scene, windows)
            except (NoScene, RasterioError, OSError):  # packing will say so
                continue
            if shares is None:
                self.nowhere.append(path)
            else:
                self.shares |= {(path, window): share for window, share in zip(windows, shares, strict=True) if share}


@contextmanager
def _layer(path: Path, data: DataSettings) -> Iterator[Layer]:
    """Open a file of labels."""
    if path.name.lower().endswith(POLYGONS):
        yield PolygonLabels(read_polygons(path, data.label_column))
        return
    with ExitStack() as stack:
        try:
            dataset = stack.enter_context(open_raster(path))
        except (NoScene, RasterioError, OSError) as error:
            raise UserError(f"data.labels: {path} cannot be read ({error})") from None
        yield RasterLabels(dataset, path.name, data.mask_classes or [], data.label_ignore)


def _largest(shares: Shares) -> tuple[str, float]:
    """The class of the largest share; of equal ones, the first."""
    name = max(shares, key=lambda name: shares[name])
    return name, shares[name]


def _in_order(names: Mapping[str, int] | set[str], data: DataSettings) -> list[str]:
    if data.mask_classes:
        return [name for name in data.mask_classes if name in names]
    numbers = not str(data.labels).lower().endswith(POLYGONS)
    return sorted(names, key=int) if numbers else sorted(names)

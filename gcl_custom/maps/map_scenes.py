"""Stage: whole scenes -> maps of what a run's backbone says of each place.

    n  windows of a batch     d  width of the backbone     k  components     c  classes     y x  cells of a map

The backbone sees each scene through overlapping windows of a tile's size. What it says of them is blended into cells as
large as the step between windows, on the scene's own grid.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import rasterio
from jaxtyping import Float
from rasterio.errors import RasterioError

from gcl_custom import console
from gcl_custom.counted import counted, either
from gcl_custom.errors import UserError
from gcl_custom.evaluation.inference import INFERENCE_BATCH
from gcl_custom.export import geoparquet
from gcl_custom.export.backbone_of_run import TrainedBackbone, load_backbone
from gcl_custom.export.embedded_table import Table, arrow
from gcl_custom.files import json_digest, require_free, write_atomically
from gcl_custom.imagery.collections.folder_walk import suffixes, walk
from gcl_custom.imagery.collections.open_collections import state_of
from gcl_custom.imagery.decoding import Unusable, reading
from gcl_custom.imagery.scenes.scenes_among import scenes_among
from gcl_custom.imagery.tile_store import tensor_of
from gcl_custom.maps.blending import Canvas, Rows
from gcl_custom.maps.cogs import MOST_COLOURED, Map, written_map
from gcl_custom.maps.fitted import Fitted, fitted, fitted_before, why_no_probe
from gcl_custom.maps.scene_windows import SceneWindows, Seen, for_maps
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.runs.run import Run

KINDS = COMPONENTS, CLASSES, CONFIDENCE, TILES = "components.tif", "classes.tif", "confidence.tif", "tiles.parquet"
ENDINGS = tuple(f".{kind}" for kind in KINDS)
MADE_FROM = "made_from"
"""Item of a map's metadata: digest of all that it was made from."""


@dataclass(frozen=True)
class Job:
    """What is the same for all scenes.

    Attributes:
        count: number of components.
        kinds: of the files of a scene, that of the components first.
        making: digest of all that maps are made from, beside the scene.
    """

    known: TrainedBackbone
    fitted: Fitted
    count: int
    kinds: Sequence[str]
    making: str | None


def map_scenes(
    run: Run, scenes: Sequence[Path], out: Path, arm: str = "gcl", seed: int | None = None, step: int | None = None,
    components: int | None = 3, table: bool = True, overwrite: bool = False,
) -> None:  # fmt: skip
    """Write the maps of scenes into the folder ``out``, each named after its scene.

    Scenes whose maps are there already, made from the same file by the same backbone in the same way, are passed over,
    so that a killed command goes on where it was.

    NAME.components.tif holds the representations' first principal components (float32, NaN without data). Where tiles
    have one class each, NAME.classes.tif holds the linear probe's likeliest class (its number, 255 without data), and
    NAME.confidence.tif its probability. NAME.tiles.parquet holds the windows as ``embed`` writes them, with class and
    confidence.

    Args:
        scenes: files, or folders of them.
        step: pixels of a scene from a window to the next one, the side of a map's cell; half a window without it.
        components: how many; None for all.
        table: whether to write the windows.

    Raises:
        UserError: there is no such backbone, scene or step; an output exists; or no scene can be used.
    """
    data = for_maps(run.recipe.data)
    assert data.scenes is not None, "just set"
    side = data.scenes.side(data.size)
    step = max(1, side // 2) if step is None else step
    if not 1 <= step <= side:
        raise UserError(f"--stride {step}: windows have {side} px, so it lies between 1 and {side}")
    listed = _listed(scenes, data, out)
    known = load_backbone(run, arm, seed)
    without = why_no_probe(known.store)
    kinds = [COMPONENTS, *([] if without else [CLASSES, CONFIDENCE]), *([TILES] if table else [])]
    asked = [data.model_dump(mode="json", exclude={"root"}), step, components, table]
    making = _making(known, asked)
    due = {
        name: (root, path)
        for name, (root, path) in listed.items()
        if not _is_mapped(_places(out / name, kinds), _made_from(making, root / path))
    }
    for place in (place for name in due for place in _places(out / name, KINDS)):
        require_free(place, overwrite)
    if kept := len(listed) - len(due):
        console.say(f"{counted(kept, 'scene')} mapped before, by the same backbone in the same way: kept")
    if not due:
        return
    if without:
        console.say(f"no map of classes: {without}")
    found = fitted(known)
    if components is not None and components > len(found.shares):
        raise UserError(f"--components {components}: there are {len(found.shares)}, or give all")
    count = len(found.shares) if components is None else components
    job = Job(known, found, count, kinds, _making(known, asked))
    bad = []
    with reading():
        for name, (root, path) in due.items():
            try:
                _map(job, SceneWindows.of(root, path, data, step), out / name)
            except Unusable as problem:
                bad.append(f"{root / path}: {problem}")
    if bad and len(bad) == len(listed):
        raise UserError("No map was made. " + "; ".join(bad[:5]))
    if bad:
        console.warn(
            f"{len(bad)} of {len(listed)} scenes {either(len(bad), 'has', 'have')} no map: " + "; ".join(bad[:5])
        )


def _listed(given: Sequence[Path], data: DataSettings, out: Path) -> dict[str, tuple[Path, str]]:
    """The name of each scene's maps -> the folder that was given, and the scene's path there.

    Maps of an earlier command are no scenes, where ``out`` lies among these.

    Raises:
        UserError: there is none, or two have one name.
    """
    found: dict[str, tuple[Path, str]] = {}
    for path in given:
        if not path.exists():
            raise UserError(f"There is no file or folder {path} (looked for from {Path.cwd()})")
        inside = scenes_among(path, walk(path, scenes=True).images, data) if path.is_dir() else [path.name]
        root = path if path.is_dir() else path.parent
        for name in inside:
            if name.endswith(ENDINGS) and out.resolve() in (root / name).resolve().parents:
                continue
            stem = str(Path(name).with_suffix(""))
            if stem in found:
                other = found[stem][0] / found[stem][1]
                raise UserError(f"{root / name} and {other}: their maps would have the same names. Map one at a time")
            found[stem] = (root, name)
    if not found:
        raise UserError(f"{', '.join(map(str, given))}: no scene there. A scene ends in {' '.join(suffixes(True))}")
    return found


def _places(stem: Path, kinds: Sequence[str]) -> list[Path]:
    return [stem.with_name(f"{stem.name}.{kind}") for kind in kinds]


def _making(known: TrainedBackbone, asked: Sequence[Any]) -> str | None:
    """Digest of all that maps are made from, beside the scene; None where this backbone has made none yet."""
    kept = fitted_before(known)
    return json_digest([], [known.about()["made_by"], kept, *asked]) if kept else None


def _made_from(making: str | None, scene: Path) -> str:
    return json_digest([], [making, state_of(scene)])


def _is_mapped(places: Sequence[Path], made_from: str) -> bool:
    """Whether the maps of a scene are there and are what this command would make."""
    if not all(place.is_file() for place in places):
        return False
    with suppress(RasterioError), rasterio.open(os.path.abspath(places[0])) as file:
        return bool(file.tags().get(MADE_FROM) == made_from)
    return False


def _map(job: Job, scene: SceneWindows, stem: Path) -> None:
    """Write the maps of a scene, or none if it cannot be used.

    Raises:
        Unusable: none of its windows can be used.
    """
    store, found = job.known.store, job.fitted
    probed = found.weight is not None
    canvas = Canvas(scene.down, scene.across, job.count + (len(store.classes) if probed else 0))
    left_out: Counter[str] = Counter()
    reasons: list[Unusable] = []
    with ExitStack() as stack:
        sinks = _Sinks(stack, job, scene, stem)
        bar = stack.enter_context(console.progress(scene.count, scene.name, "windows"))
        for windows, following in scene.strips(store.form):
            while batch := list(islice(windows, INFERENCE_BATCH)):
                reasons += [seen.pixels for seen in batch if isinstance(seen.pixels, Unusable)][: 1 - len(reasons)]
                left_out.update(seen.pixels.kind for seen in batch if isinstance(seen.pixels, Unusable))
                _add(job, canvas, sinks, batch)
                bar.advance(len(batch))
            sinks.rows(canvas.finished(following))
        if left_out.total() == scene.count:
            raise Unusable(f"none of its {scene.count:,} windows can be used", str(reasons[0]))
        # The map of components takes its name last, so where it is, all are of one making. Older ones go before.
        for place in _places(stem, [COMPONENTS, *(kind for kind in KINDS if kind not in job.kinds)]):
            place.unlink(missing_ok=True)
    _say(scene, stem, left_out, sinks.written)


def _add(job: Job, canvas: Canvas, sinks: "_Sinks", batch: Sequence[Seen]) -> None:
    """Embed windows and put what the backbone says of them where they lie."""
    usable = [seen for seen in batch if not isinstance(seen.pixels, Unusable)]
    tiles = [seen.pixels for seen in batch if not isinstance(seen.pixels, Unusable)]
    said: Iterator[Float[np.ndarray, " v"]] = iter(())
    if tiles:
        found = job.known.represent(tensor_of(np.stack(tiles)))
        values = job.fitted.components(found, job.count)
        if job.fitted.weight is not None:
            values = np.concatenate([values, job.fitted.probabilities(found)], axis=1)
        sinks.windows(usable, found, values[:, job.count :])
        said = iter(values)
    for seen in batch:
        window = seen.source.window
        assert window is not None
        value = None if isinstance(seen.pixels, Unusable) else next(said)
        canvas.add(window.row, window.column, seen.valid, value)


class _Sinks:
    """The files of a scene's maps, which are open until all rows are written."""

    def __init__(self, stack: ExitStack, job: Job, scene: SceneWindows, stem: Path) -> None:
        self._stack, self._job, self._classes = stack, job, job.known.store.classes
        self._writer: pyarrow.parquet.ParquetWriter | None = None
        probed = job.fitted.weight is not None
        self.written = _places(stem, job.kinds)
        about = _about(job, scene)
        shares = job.fitted.shares[: job.count].tolist()
        names = [f"component {number}, {share:.2%} of the variance" for number, share in enumerate(shares, 1)]

        def begin(path: Path, dtype: str, nodata: float, bands: list[str], **options: Any) -> Map:
            return stack.enter_context(written_map(path, scene.cells, dtype, nodata, bands, about, **options))

        self._components = begin(self.written[0], "float32", np.nan, names)
        self._of_classes: Map | None = None
        if probed:
            few = len(self._classes) <= MOST_COLOURED
            self._nodata = 255 if few else 65_535
            kind = "uint8" if few else "uint16"
            self._of_classes = begin(self.written[1], kind, float(self._nodata), ["class"], classes=self._classes)
            self._confidence = begin(self.written[2], "float32", np.nan, ["probability of the class"])
        self._part = stack.enter_context(write_atomically(self.written[-1])) if TILES in job.kinds else None

    def windows(
        self, seen: Sequence[Seen], representations: Float[np.ndarray, "n d"], probabilities: Float[np.ndarray, "n c"]
    ) -> None:
        """Add windows to the table."""
        if self._part is None:
            return
        rows = Table([one.source for one in seen], [one.place for one in seen], representations)
        table = arrow(rows, self._job.known)
        if probabilities.shape[1]:
            names = [self._classes[number] for number in probabilities.argmax(1)]
            table = table.append_column("class", pa.array(names, pa.string()))
            table = table.append_column("confidence", pa.array(probabilities.max(1), pa.float64()))
        if self._writer is None:  # the box around all points is not known yet, and may be left out
            kept = {**(table.schema.metadata or {}), b"geo": geoparquet.about().encode()}
            writer = pyarrow.parquet.ParquetWriter(self._part, table.schema.with_metadata(kept))
            self._writer = self._stack.enter_context(writer)
        self._writer.write_table(table)

    def rows(self, finished: Iterator[Rows]) -> None:
        """Write rows of all maps."""
        count = self._job.count
        for first, values in finished:
            self._components.rows(first, values[:count])
            if self._of_classes is not None:
                said = values[count:]
                none = np.isnan(said[:1])
                number = np.where(none, 0, said).argmax(0)[None]
                self._of_classes.rows(first, np.where(none, self._nodata, number))
                self._confidence.rows(first, said.max(0)[None])


def _about(job: Job, scene: SceneWindows) -> dict[str, str]:
    known = job.known.about()
    return {
        **{name: known[name] for name in ("made_by", "run", "arm", "seed", "architecture", "licence_of_data")},
        "scene": scene.name,
        "window_pixels": str(scene.down.side),
        "stride_pixels": str(scene.down.step),
        MADE_FROM: _made_from(job.making, scene.root / scene.name),
    }


def _say(scene: SceneWindows, stem: Path, left_out: Counter[str], written: Sequence[Path]) -> None:
    cells, metres = scene.cells, scene.cells.metres
    size = f"{scene.down.step} px" + (f", about {metres:,.4g} m" if metres else "")
    files = ", ".join(path.name for path in written)
    console.say(f"{scene.name}: {cells.width:,} x {cells.height:,} cells of {size}: {files} in {stem.parent}")
    if left_out:
        each = ", ".join(f"{count:,} {kind}" for kind, count in left_out.most_common())
        console.say(f"{scene.name}: {left_out.total():,} of {scene.count:,} windows left out ({each})")

"""The size of a scene does not matter for the memory that its maps take."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio

from benchmarks.memory_of import peak
from gcl_custom.runs.run import Run

CODE = f"""
import json, sys
from pathlib import Path
from gcl_custom.maps.map_scenes import map_scenes
from gcl_custom.runs.run import kept_run

def mapped(name):
    map_scenes(kept_run(Path(sys.argv[1])), [Path(f"{{name}}.tif")], Path("maps"), step=32)
    return peak()

{inspect.getsource(peak)}
mapped("small")
print(json.dumps([mapped("small2"), mapped("large")]))
"""
WIDTH, TALL = 512, 24_576


def draw(path: Path, height: int) -> None:
    """Four bands of uint16 in blocks of 256 px."""
    about = {"driver": "GTiff", "width": WIDTH, "height": height, "count": 4, "dtype": "uint16", "compress": "deflate"}
    noise = np.random.default_rng(0).integers(1, 9000, (4, 64, 64), dtype=np.uint16).repeat(4, 1).repeat(4, 2)
    with rasterio.open(path, "w", **about, tiled=True, blockxsize=256, blockysize=256, crs="EPSG:32633",
                       transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_500_000)) as scene:  # fmt: skip
        for number, (_, window) in enumerate(scene.block_windows(1)):
            scene.write(noise + np.uint16(number), window=window)


def test_the_largest_memory_of_a_map_does_not_grow_with_the_scene(run: Run, tmp_path: Path) -> None:
    """24 times the pixels: the large scene has 101 MB, its windows half as much again and their values."""
    with run.saved():
        pass
    for name, height in (("small", 1024), ("small2", 1024), ("large", TALL)):
        draw(tmp_path / f"{name}.tif", height)
    command = [sys.executable, "-c", CODE, str(run.path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    small, large = json.loads(done.stdout.splitlines()[-1])
    assert large - small < 40e6
    with rasterio.open(tmp_path / "maps" / "large.components.tif") as file:
        assert (file.width, file.height) == (WIDTH // 32, TALL // 32)
        assert np.isfinite(file.read()).all()

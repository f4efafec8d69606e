"""The size of a scene does not matter for the memory that packing takes."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio

from benchmarks.memory_of import peak

CODE = f"""
import json, sys
from pathlib import Path
from gcl_custom.imagery import pack_tiles
from gcl_custom.recipe.imagery import DataSettings, ScenesSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run

def packed(name):
    data = DataSettings(root=name, size=16, scenes=ScenesSettings(tile=256, sameness=1.0))
    pack_tiles.pack_tiles(Run(Path(f"runs/{{name}}"), Recipe(name=name, data=data)))
    return peak()

{inspect.getsource(peak)}
packed("small")
print(json.dumps([packed("small2"), packed("large")]))
"""


def draw(path: Path, side: int) -> None:
    """Four bands of uint8 in blocks of 512 px, each of another brightness, so that there are no two equal tiles."""
    path.parent.mkdir()
    about = {"driver": "GTiff", "width": side, "height": side, "count": 4, "dtype": "uint8", "compress": "deflate"}
    noise = np.random.default_rng(0).integers(0, 200, (4, 8, 8), dtype=np.uint8).repeat(64, 1).repeat(64, 2)
    place = rasterio.Affine(10, 0, 500_000, 0, -10, 5_500_000)
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512, "crs": "EPSG:32633", "transform": place}
    with rasterio.open(path, "w", **about, **blocks) as scene:
        for number, (_, window) in enumerate(scene.block_windows(1)):
            scene.write(noise + np.uint8(number % 55), window=window)


def test_the_largest_memory_of_packing_does_not_grow_with_the_scene(tmp_path: Path) -> None:
    """64 times the pixels: the large scene has 268 MB."""
    for name, side in (("small", 1024), ("small2", 1024), ("large", 8192)):
        draw(tmp_path / name / "scene.tif", side)
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    small, large = json.loads(done.stdout.splitlines()[-1])
    assert large - small < 80e6

"""A run on GeoTIFFs of four bands of three classes, and a scene of stripes of the same classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_imagery import COLOURS
from made_scenes import write_scene

from gcl_custom.runs.run import Run

WIDTH, HEIGHT = 208, 150
"""Of the scene: no multiple of a window, nor of a step."""
STRIPE = 64
"""Pixels of a stripe: lake, forest, field, and what remains is lake again."""


@pytest.fixture(scope="session")
def run(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    made: Run = make_run(tmp_path_factory.mktemp("mapped"), bands=4)
    return made


@pytest.fixture(scope="session")
def striped() -> np.ndarray:
    """Stripes from west to east, in the colours of the run's classes, without nodata."""
    rng = np.random.default_rng(1)
    colours = np.array([*COLOURS.values(), *COLOURS.values()][:4])
    mean = colours[np.arange(WIDTH) // STRIPE].T[:, None]
    pixels = np.clip(rng.normal(mean, 40, (4, HEIGHT, WIDTH)), 1, 1000)
    found: np.ndarray = (40 * pixels).astype(np.uint16)
    return found


@pytest.fixture(scope="session")
def scene(striped: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "north.tif"
    write_scene(path, striped)
    return path

"""What several test modules need."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real imagery: wildfire/, eurosat/ and geotiff/."""
    folder = os.environ.get("GCL_CUSTOM_DATA")
    if not folder:
        pytest.skip("real imagery: set GCL_CUSTOM_DATA to a folder with wildfire/, eurosat/ and geotiff/")
    if not Path(folder).is_dir():
        pytest.skip(f"real imagery: GCL_CUSTOM_DATA is {folder}, which is not there")
    return Path(folder)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests are small: a second thread costs more than it brings, and the order of sums stays fixed."""
    torch.set_num_threads(1)

"""A backbone from its file alone: a run's own, or an exported one."""

from pathlib import Path

import torch
from torch import nn

from gcl_custom.export.transform import Transform
from gcl_custom.pretraining.description import Description
from gcl_custom.weights.state_dicts import read_metadata, read_weights


def load_saved(path: Path) -> tuple[nn.Module, Transform]:
    """The network in a file of safetensors, and what turns an image into its input, as the file describes them.

    Raises:
        UserError: the file cannot be read, has no description that this version understands, or does not fit it.
    """
    about = Description.read(read_metadata(path), str(path))
    network = about.built(read_weights(path), str(path))
    low, high = torch.tensor(about.low), torch.tensor(about.high)
    return network, Transform(about.form, about.size, about.upscale, about.nodata, low, high)

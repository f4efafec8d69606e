"""SwAV's ResNet-50 with random weights, as its public file holds it."""

import torch
import torchvision
from torch import Tensor, nn


def swav_state() -> dict[str, Tensor]:
    """SwAV's names and shapes: a ResNet-50 behind "module.", its projection head and prototypes."""
    torch.manual_seed(0)
    trunk = torchvision.models.resnet50(weights=None)
    state = {f"module.{name}": value for name, value in trunk.state_dict().items() if not name.startswith("fc.")}
    head = nn.Sequential(nn.Linear(2048, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    state |= {f"module.projection_head.{name}": value for name, value in head.state_dict().items()}
    return state | {"module.prototypes.weight": torch.zeros(5, 3)}

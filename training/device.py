"""Device, precision and memory layout of training: on a CUDA GPU if there is one, else on the CPU.

Random numbers always come from the CPU's generators, so a run samples the same images on both.
"""

from __future__ import annotations

import torch
from torch import nn


def training_device() -> torch.device:
    """Return the device that networks are trained on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> torch.autocast:
    """Return the context in which networks run in bfloat16."""
    return torch.autocast(device.type, torch.bfloat16)


def channels_last(network: nn.Module) -> None:
    """Store convolution weights channels last, in place: twice as fast on a CPU in bfloat16."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

"""From the PNGs in the object store to what the networks read.

The files are our own: the service has decoded, checked and rewritten what the client sent.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def image_tensor(png: bytes) -> Tensor:
    """An RGB PNG -> (3, H, W) float32 in [-1, 1]."""
    return _tensor(png, "RGB") * 2 - 1


def control_tensor(png: bytes) -> Tensor:
    """An RGB PNG -> (3, H, W) float32 in [0, 1], as ControlNets are shown it."""
    return _tensor(png, "RGB")


def mask_tensor(png: bytes) -> Tensor:
    """A grey PNG -> (1, H, W) float32 in [0, 1]; 1 (white) is repainted."""
    return _tensor(png, "L")


def label_tensor(png: bytes) -> Tensor:
    """A grey PNG whose values are the numbers of classes -> (1, H, W) int64."""
    return (_tensor(png, "L") * 255).round().long()


def _tensor(png: bytes, mode: str) -> Tensor:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        values = np.array(image.convert(mode), dtype=np.float32) / 255
    return torch.from_numpy(values.reshape(*values.shape[:2], -1)).permute(2, 0, 1)

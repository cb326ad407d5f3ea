"""Converts the PNGs of the object store to tensors.

The service wrote these files: it decodes, checks and encodes every image that a client sends.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from worker.interfaces import Pixels


def image_tensor(png: bytes) -> Tensor:
    """Decode an RGB PNG -> (3, H, W) float32 in [-1, 1]."""
    return _tensor(png, "RGB") * 2 - 1


def rgb_pixels(png: bytes) -> Pixels:
    """Decode an RGB PNG -> (H, W, 3) uint8."""
    return _decoded(png, "RGB")


def grey_pixels(png: bytes) -> Pixels:
    """Decode a grey PNG -> (H, W) uint8."""
    return _decoded(png, "L")


def opaque_pixels(png: bytes) -> Pixels:
    """Decode an RGB or RGBA PNG, transparency on white -> (H, W, 3) uint8."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.array(on_white(image).convert("RGB"))


def on_white(image: Image.Image) -> Image.Image:
    """Return an RGBA image on white, in RGB; any other as it is."""
    if image.mode != "RGBA":
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def control_tensor(png: bytes) -> Tensor:
    """Decode an RGB PNG -> (3, H, W) float32 in [0, 1], the input of ControlNets."""
    return _tensor(png, "RGB")


def grey_tensor(png: bytes) -> Tensor:
    """Decode a mask or a depth map, in grey or RGB -> (1, H, W) float32 in [0, 1]; 1 is white."""
    return _tensor(png, "L")


def label_tensor(png: bytes) -> Tensor:
    """Decode a grey PNG whose values are class numbers -> (1, H, W) int64."""
    return (_tensor(png, "L") * 255).round().long()


def _tensor(png: bytes, mode: str) -> Tensor:
    values = _decoded(png, mode).astype(np.float32) / 255
    return torch.from_numpy(values.reshape(*values.shape[:2], -1)).permute(2, 0, 1)


def _decoded(png: bytes, mode: str) -> Pixels:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.array(image.convert(mode))

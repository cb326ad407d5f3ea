"""Conversion of images between bytes and floats; also of depth, of models that predict it."""

from __future__ import annotations

import torch
from torch import Tensor

RGB = 3


def to_bytes(image: Tensor) -> Tensor:
    """Convert image (B, C, H, W) in [-1, 1] to uint8 (B, H, W, 3).

    Channels beyond RGB are depth, which adds the high and the low byte of a 16-bit number:
    (B, H, W, 5).
    """
    image = (image / 2 + 0.5).clamp(0, 1)
    rgb, depth = image[:, :RGB], image[:, RGB:]
    planes = (rgb * 255).round()
    if depth.shape[1]:
        planes = torch.cat([planes, _two_bytes(depth)], dim=1)
    return planes.to(torch.uint8).permute(0, 2, 3, 1)


def from_bytes(image: Tensor) -> Tensor:
    """Convert uint8 to float32 in [-1, 1]."""
    return image.float() / 255 * 2 - 1


def _two_bytes(depth: Tensor) -> Tensor:
    """Return the high and low byte (B, 2, H, W) of depth as published models encode it.

    Stan et al. 2023, "LDM3D". In three channels green is the high and blue the low byte, red being
    unused; a single channel is the depth itself, from 0 to 1.
    """
    if depth.shape[1] == RGB:
        return (depth[:, 1:] * 255).round()
    sixteen = (depth * 65535).round()
    high = (sixteen / 256).floor()
    return torch.cat([high, sixteen - 256 * high], dim=1)

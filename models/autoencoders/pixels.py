"""From what a decoder gives to bytes: pictures, and the depth that some models give with them."""

from __future__ import annotations

import torch
from torch import Tensor

RGB = 3


def to_bytes(image: Tensor) -> Tensor:
    """image (B, C, H, W) in [-1, 1] -> uint8 (B, H, W, 3); beyond RGB it may tell depth, which
    adds the high and the low byte of a 16-bit number: (B, H, W, 5).
    """
    image = (image / 2 + 0.5).clamp(0, 1)
    picture, depth = image[:, :RGB], image[:, RGB:]
    planes = (picture * 255).round()
    if depth.shape[1]:
        planes = torch.cat([planes, _two_bytes(depth)], dim=1)
    return planes.to(torch.uint8).permute(0, 2, 3, 1)


def _two_bytes(depth: Tensor) -> Tensor:
    """As published models tell depth (Stan et al. 2023, "LDM3D"), high and low byte (B, 2, H, W).

    Three channels are a picture of it whose green is the high and whose blue the low byte, red
    being unused; a single channel is the depth itself, from 0 to 1.
    """
    if depth.shape[1] == RGB:
        return (depth[:, 1:] * 255).round()
    sixteen = (depth * 65535).round()
    high = (sixteen / 256).floor()
    return torch.cat([high, sixteen - 256 * high], dim=1)

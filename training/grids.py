"""Grids of images, and conversion between pixels and tensors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor


def to_pixels(images: Tensor) -> npt.NDArray[np.uint8]:
    """Convert images (B, 3, H, W) in [-1, 1] to pixels (B, H, W, 3) uint8."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pixels: npt.NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def from_pixels(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """Convert pixels (B, H, W, 3) uint8 to images (B, 3, H, W) in [-1, 1], channels last."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def grid(pixels: npt.NDArray[np.uint8], columns: int, gap: int = 2) -> Image.Image:
    """Arrange pixels (N, H, W, 3) in rows of `columns` images with light gaps."""
    count, height, width, _ = pixels.shape
    rows = -(-count // columns)
    canvas = np.full((rows * (height + gap), columns * (width + gap), 3), 230, np.uint8)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return Image.fromarray(canvas)

"""Resampling of images without a network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Pixels = NDArray[np.uint8]  # (H, W, 3), RGB
Size = tuple[int, int]  # width, height in pixels

FILTERS = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST}


def resized(pixels: Pixels, size: Size, resampling: str = "lanczos") -> Pixels:
    """Return an image of `size`, by one of `FILTERS`."""
    height, width, _ = pixels.shape
    if (width, height) == size:
        return pixels
    return _array(Image.fromarray(pixels).resize(size, FILTERS[resampling]))


def blended(first: Pixels, second: Pixels, share: float) -> Pixels:
    """Return the mean of two images of one size, with `share` of the second."""
    return _array(Image.blend(Image.fromarray(first), Image.fromarray(second), share))


def channels_first(pixels: Pixels) -> Tensor:
    """Return an image (H, W, 3) as a tensor (3, H, W) of the same bytes, in the same memory."""
    return torch.from_numpy(np.require(pixels, requirements="W")).permute(2, 0, 1)


def _array(image: Image.Image) -> Pixels:
    return np.array(image)  # a copy, since that of `asarray` cannot be written to

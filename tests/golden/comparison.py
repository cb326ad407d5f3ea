"""Differences between two image files: in levels, in metadata."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

# Pillow adds the last one to a JPEG whose Exif has no resolution.
LEFT_OUT = frozenset({"parameters", "exif", "xmp", "XML:com.adobe.xmp", "dpi"})


@dataclass(frozen=True)
class Difference:
    """Of decoded pixels, in levels of 0 to 255."""

    largest: float
    mean: float


def difference(one: bytes, other: bytes) -> Difference:
    """Return how far the pixels are apart; infinitely far if the sizes differ."""
    a, b = (np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), float) for file in (one, other))
    if a.shape != b.shape:
        return Difference(np.inf, np.inf)
    apart = np.abs(a - b)
    return Difference(float(apart.max()), float(apart.mean()))


def metadata(file: bytes) -> dict[str, Any]:
    """Return everything but the pixels: size, format, mode, texts, tables of a JPEG.

    Without infotext, Exif and XMP: they name the version, and have tests of their own.
    """
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        return {
            "size": image.size,
            "format": image.format,
            "mode": image.mode,
            "info": {key: image.info[key] for key in image.info if key not in LEFT_OUT},
            "quantization": getattr(image, "quantization", None),
        }

"""Filling a marked area with colours that flow in from its surroundings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Bytes = NDArray[np.uint8]

# Radius of a blur, and how often its result is put over the coarser ones: those of `fill` in
# AUTOMATIC1111's modules/masking.py. The last one restores what is not marked.
BLURS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))


def fill_masked(image: Bytes, mask: Bytes) -> Bytes:
    """Return an image (H, W, 3) whose pixels under the mask (H, W) are mixed from those around
    them. Without a pixel outside the mask it is black.
    """
    colours = Image.fromarray(image)
    known = Image.new("RGBa", colours.size)
    # In premultiplied alpha, a blur does not mix the colours of transparent pixels in.
    known.paste(colours.convert("RGBA").convert("RGBa"), mask=Image.fromarray(255 - mask))
    filled = Image.new("RGBA", colours.size)
    for radius, times in BLURS:
        blurred = known.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            filled.alpha_composite(blurred)
    return np.array(filled.convert("RGB"))

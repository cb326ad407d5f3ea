"""The files that come with a picture: so far, its depth."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from protocol.keys import Extra
from worker.ports import RGB, Pixels


def extras(pixels: Pixels) -> Iterator[tuple[Extra, bytes]]:
    """What else than a picture there is in `pixels`, each as a file."""
    if pixels.shape[-1] > RGB:
        yield Extra.DEPTH, _depth(pixels)


def _depth(pixels: Pixels) -> bytes:
    """A grey PNG of 16 bits."""
    high, low = pixels[..., RGB], pixels[..., RGB + 1]
    depth = high.astype(np.uint16) * 256 + low
    file = io.BytesIO()
    Image.fromarray(depth).save(file, "PNG")
    return file.getvalue()

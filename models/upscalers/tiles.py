"""Overlapping tiles of an image that is upscaled.

A tile's outermost pixels have no neighbours, so they are dropped; then it fades into the tiles
before it. The tiles are cut alike for every image of a size, whatever the device and the load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from models.upscalers.resampling import Pixels, Size

SIDE = 256  # of a tile, in pixels of the image
DROPPED = 12  # pixels at the edge of a tile within the image
FADED = 16  # pixels over which two tiles are mixed
OVERLAP = 2 * DROPPED + FADED


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, pixels: Pixels) -> Pixels:
        rows = slice(self.top, self.top + self.height)
        return pixels[rows, self.left : self.left + self.width]


def tiles_of(size: Size, multiple: int = 1) -> list[Tile]:
    """Return the tiles of an image, row by row, for a network that takes multiples of a size.

    They begin at multiples, because such a network treats pixels by their place in its grid. The
    last ones end at the edges of the image, continued to a multiple, so that all have one size.
    """
    width, height = size
    side = SIDE // multiple * multiple
    tops, lefts = (_starts(length, side, multiple) for length in (height, width))
    return [
        Tile(top, left, min(side, height - top), min(side, width - left))
        for top, left in product(tops, lefts)
    ]


def _starts(length: int, side: int, multiple: int) -> Sequence[int]:
    last = -(-length // multiple) * multiple - side
    step = (side - OVERLAP) // multiple * multiple
    return [*range(0, last, step), max(0, last)]


def paste(canvas: Pixels, tile: Tile, values: NDArray[np.float32], scale: int) -> None:
    """Mix an upscaled tile (H, W, 3) of values from 0 to 255 into the canvas.

    The tiles before it, in the order of `tiles_of`, are there already.
    """
    height, width = canvas.shape[:2]
    place = Tile(*(scale * n for n in (tile.top, tile.left, tile.height, tile.width)))
    rows = _weights(place.top, place.height, height, scale)
    columns = _weights(place.left, place.width, width, scale)
    weight = np.minimum(rows[:, None], columns[None, :])[..., None]
    before = place.cut(canvas)
    np.copyto(before, np.rint(before + weight * (values - before)), casting="unsafe")


def _weights(start: int, length: int, total: int, scale: int) -> NDArray[np.float32]:
    """Return the weight of each row of an upscaled tile that begins at `start` of `total`."""
    weights = np.ones(length, np.float32)
    dropped, faded = scale * DROPPED, scale * FADED
    if start > 0:
        weights[:dropped] = 0
        weights[dropped : dropped + faded] = (np.arange(faded, dtype=np.float32) + 0.5) / faded
    if start + length < total:
        weights[length - dropped :] = 0
    return weights

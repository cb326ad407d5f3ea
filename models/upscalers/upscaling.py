"""An image that is upscaled tile by tile, by networks or filters.

A network is applied as often as it takes to reach the size, three times at most, and the result is
brought to the size with Lanczos, as AUTOMATIC1111's web UI does it (modules/upscaler.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.upscalers.config import UpscalerConfig
from models.upscalers.resampling import Pixels, Size, blended, resized
from models.upscalers.tile_work import TileWork
from models.upscalers.tiles import paste, tiles_of

MAX_PASSES = 3  # of one network


class Run(Protocol):
    """A network with its executor."""

    def __call__(self, *inputs: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Upscaler:
    """A network, what runs it, and the device and precision of its input."""

    name: str
    config: UpscalerConfig
    run: Run
    device: torch.device
    dtype: torch.dtype
    nbytes: int = 0

    @torch.inference_mode()
    def enlarge(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return an image (H, W, 3) enlarged, as values from 0 to 255."""
        height, width, _ = pixels.shape
        x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
        x = self._padded(x.to(self.device).float() / 255).to(self.dtype)
        out = self.run(x)[0].float().clamp(0, 1) * 255
        scale = self.config.scale
        out = out[:, : scale * height, : scale * width].permute(1, 2, 0)
        values: NDArray[np.float32] = out.contiguous().cpu().numpy()
        return values

    def _padded(self, image: Tensor) -> Tensor:
        """Continue the image at its lower and right edge to a size that the network takes."""
        sides = [self._side(length) for length in image.shape[-2:]]
        for dim, side in ((-2, sides[0]), (-1, sides[1])):
            while (missing := side - image.shape[dim]) > 0:
                # A reflection is shorter than the image, and a single pixel has none.
                length = min(missing, image.shape[dim] - 1) or missing
                mode = "reflect" if image.shape[dim] > 1 else "replicate"
                amounts = (0, 0, 0, length) if dim == -2 else (0, length, 0, 0)
                image = F.pad(image, amounts, mode)
        return image

    def _side(self, length: int) -> int:
        multiple = self.config.multiple
        return -(-max(length, self.config.least) // multiple) * multiple


Method = Upscaler | str  # a network, or one of `resampling.FILTERS`


class Upscaling(TileWork):
    """An image on its way to `size`; the results of two methods are mixed with `blend`.

    One `advance` runs one tile, or the last resizing of one method.
    """

    def __init__(
        self, pixels: Pixels, size: Size, methods: Sequence[Method], blend: float = 0.5
    ) -> None:
        """`methods`: one, or two; `blend`: the share of the second."""
        steps = sum(steps_of(_size(pixels), size, method) for method in methods)
        super().__init__(pixels, steps, self._run(size, methods, blend))

    def _run(self, size: Size, methods: Sequence[Method], blend: float) -> Generator[None]:
        """Yield before each step."""
        results = []
        for method in methods:
            pixels, resampling = self.pixels, "lanczos"
            self.method = _name(method)
            if isinstance(method, Upscaler):
                for _ in passes(_size(pixels), size, method.config.scale):
                    pixels = yield from self._enlarge(pixels, method)
            else:
                resampling = method
            self.shape = pixels.shape[:2]
            yield
            results.append(resized(pixels, size, resampling))
        first, *rest = results
        self.pixels = blended(first, rest[0], blend) if rest else first

    def _enlarge(self, pixels: Pixels, upscaler: Upscaler) -> Generator[None, None, Pixels]:
        height, width, channels = pixels.shape
        scale = upscaler.config.scale
        canvas = np.zeros((scale * height, scale * width, channels), np.uint8)
        for tile in tiles_of((width, height), upscaler.config.multiple):
            self.shape = tile.height, tile.width
            yield
            paste(canvas, tile, upscaler.enlarge(tile.cut(pixels)), scale)
        return canvas


def passes(size: Size, target: Size, scale: int) -> list[Size]:
    """Return the sizes of the images that the passes of a network of that scale read."""
    sizes = [size]
    while len(sizes) < MAX_PASSES and scale > 1:
        larger = (scale * sizes[-1][0], scale * sizes[-1][1])
        if larger[0] >= target[0] and larger[1] >= target[1]:
            break
        sizes.append(larger)
    return sizes


def steps_of(size: Size, target: Size, method: Method) -> int:
    """Return the steps that a method takes from one size to the other."""
    if isinstance(method, str):
        return 1
    config = method.config
    images = passes(size, target, config.scale)
    return 1 + sum(len(tiles_of(one, config.multiple)) for one in images)


def _name(method: Method) -> str:
    return method if isinstance(method, str) else method.name


def _size(pixels: Pixels) -> Size:
    height, width, _ = pixels.shape
    return width, height

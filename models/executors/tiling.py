"""Pictures that are too large for the autoencoder at once pass it in overlapping tiles.

Each tile fades into its neighbours over a quarter of its side, the way diffusers' `enable_tiling`
does it, save that no tile is made of what the one before already shows whole: a strip of a few
pixels has little in common with the picture. What is given up: attention sees one tile only, and
group normalisation takes its means over one tile only, so that colours of distant tiles may differ
a little from those of the whole. A picture that is small enough passes whole, to the same bits as
without tiling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.autoencoders.first_stage import FirstStage
from models.executors.base import Executors, Run

_OVERLAP = 4  # a tile shares one part in so many of its side with the next
_ALIVE = 4  # feature maps of the finest level that are held at once, measured on a CPU: 3.7


@dataclass(frozen=True)
class Tiling:
    """Pictures of more than `whole` pixels with a side above `side` are cut; sizes in pixels."""

    side: int
    whole: int = 0


class Tiled:
    """Runs an encoder or a decoder, on large inputs (N, C, H, W) tile by tile.

    `side`: of a tile of the input, a multiple of 4. `whole`: how large (H · W) an input passes
    as it is, whatever its sides. What comes out is `up` / `down` times as large along each side.
    """

    def __init__(self, run: Run, side: int, whole: int, *, up: int = 1, down: int = 1) -> None:
        self._run = run
        self._side = side
        self._whole = whole
        self._fade = side // _OVERLAP * up // down  # of the output
        self._kept = side * up // down - self._fade

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        height, width = x.shape[-2:]
        if max(height, width) <= self._side or height * width <= self._whole:
            return self._run(x)
        tiles = [
            [
                self._run(x[..., top : top + self._side, left : left + self._side].contiguous())
                for left in self._starts(width)
            ]
            for top in self._starts(height)
        ]
        return self._joined(tiles)

    def _starts(self, length: int) -> range:
        shared = self._side // _OVERLAP
        return range(0, max(1, length - shared), self._side - shared)

    def _joined(self, tiles: list[list[Tensor]]) -> Tensor:
        for i, row in enumerate(tiles):
            for j, tile in enumerate(row):
                if i > 0:
                    tile = _faded(tiles[i - 1][j], tile, self._fade, dim=-2)
                if j > 0:
                    tile = _faded(row[j - 1], tile, self._fade, dim=-1)
                row[j] = tile
        return _side_by_side([_side_by_side(row, self._kept, -1) for row in tiles], self._kept, -2)


def _side_by_side(tiles: list[Tensor], kept: int, dim: int) -> Tensor:
    """So much of each as the next does not show, and all of the last."""
    *others, last = tiles
    return torch.cat([*(tile.narrow(dim, 0, kept) for tile in others), last], dim)


def _faded(before: Tensor, tile: Tensor, width: int, dim: int) -> Tensor:
    """`tile`, at whose beginning along `dim` the end of the tile `before` fades out."""
    width = min(width, before.shape[dim], tile.shape[dim])
    share = torch.arange(width, device=tile.device, dtype=tile.dtype) / width
    if dim == -2:
        share = share[:, None]
    end = before.narrow(dim, before.shape[dim] - width, width)
    start = end * (1 - share) + tile.narrow(dim, 0, width) * share
    rest = tile.narrow(dim, width, tile.shape[dim] - width)
    return torch.cat([start, rest], dim)


def tiled(executors: Executors, first_stage: FirstStage, tiling: Tiling) -> Executors:
    """The same executors, whose encoder and decoder take large pictures in tiles."""
    factor = first_stage.config.factor
    side = max(_OVERLAP, tiling.side // factor // _OVERLAP * _OVERLAP)  # in latents
    return replace(
        executors,
        decoder=Tiled(executors.decoder, side, tiling.whole // factor**2, up=factor),
        encoder=Tiled(executors.encoder, side * factor, tiling.whole, down=factor),
    )


def bytes_per_pixel(first_stage: FirstStage) -> int:
    """Memory that decoding takes for each pixel of a picture, about."""
    return _ALIVE * first_stage.config.max_channels * next(first_stage.parameters()).element_size()

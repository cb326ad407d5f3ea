"""Encoding and decoding of large images in overlapping tiles.

Each tile fades into its neighbours over a quarter of its side, as in diffusers' `enable_tiling`,
except that no tile lies completely within the one before: a strip of a few pixels has little in
common with the image. Two things are lost: attention and the means of group normalisation cover one
tile only, so that colours of distant tiles may differ a little from those of the whole image. An
image that is small enough is processed whole, to the same bits as without tiling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.autoencoders.first_stage import FirstStage
from models.executors.base import Executors, Run

_OVERLAP = 4  # a tile shares 1 / _OVERLAP of its side with the next
_ALIVE = 4  # feature maps of the finest level in memory at once, measured on a CPU: 3.7


@dataclass(frozen=True)
class Tiling:
    """Images of more than `whole` pixels with a side above `side` are cut; sizes in pixels."""

    side: int
    whole: int = 0


class Tiled:
    """Runs an encoder or a decoder, on large inputs (N, C, H, W) tile by tile.

    side: of a tile of the input, a multiple of 4. whole: the area (H · W) up to which an input is
    processed whole, even if a side is longer. The output is `up` / `down` times as large along each
    side.
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
        return self._join_all(tiles)

    def _starts(self, length: int) -> range:
        shared = self._side // _OVERLAP
        return range(0, max(1, length - shared), self._side - shared)

    def _join_all(self, tiles: list[list[Tensor]]) -> Tensor:
        for i, row in enumerate(tiles):
            for j, tile in enumerate(row):
                if i > 0:
                    tile = _fade_in(tiles[i - 1][j], tile, self._fade, dim=-2)
                if j > 0:
                    tile = _fade_in(row[j - 1], tile, self._fade, dim=-1)
                row[j] = tile
        return _join([_join(row, self._kept, -1) for row in tiles], self._kept, -2)


def _join(tiles: list[Tensor], kept: int, dim: int) -> Tensor:
    """Join tiles along `dim`: the first `kept` rows or columns of each, and all of the last."""
    *others, last = tiles
    return torch.cat([*(tile.narrow(dim, 0, kept) for tile in others), last], dim)


def _fade_in(before: Tensor, tile: Tensor, width: int, dim: int) -> Tensor:
    """Return `tile` with the end of the tile `before` fading out at its start along `dim`."""
    width = min(width, before.shape[dim], tile.shape[dim])
    share = torch.arange(width, device=tile.device, dtype=tile.dtype) / width
    if dim == -2:
        share = share[:, None]
    end = before.narrow(dim, before.shape[dim] - width, width)
    start = end * (1 - share) + tile.narrow(dim, 0, width) * share
    rest = tile.narrow(dim, width, tile.shape[dim] - width)
    return torch.cat([start, rest], dim)


def tiled(executors: Executors, first_stage: FirstStage, tiling: Tiling) -> Executors:
    """Return the same executors with encoder and decoder that process large images in tiles."""
    factor = first_stage.config.factor
    side = max(_OVERLAP, tiling.side // factor // _OVERLAP * _OVERLAP)  # in latents
    return replace(
        executors,
        decoder=Tiled(executors.decoder, side, tiling.whole // factor**2, up=factor),
        encoder=Tiled(executors.encoder, side * factor, tiling.whole, down=factor),
    )


def bytes_per_pixel(first_stage: FirstStage) -> int:
    """Return the approximate memory that decoding takes for each pixel of an image."""
    return _ALIVE * first_stage.config.max_channels * next(first_stage.parameters()).element_size()

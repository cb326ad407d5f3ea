"""Encoding and decoding of large images in overlapping tiles.

Each tile fades into its neighbours over a quarter of its side, as in diffusers' `enable_tiling`,
except that no tile lies completely within the one before: a strip of a few pixels has little in
common with the image. Two things are lost: attention and the means of group normalisation cover one
tile only, so that colours of distant tiles may differ a little from those of the whole image. An
image that is small enough is processed whole, to the same bits as without tiling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
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

    def running(self, run: Run) -> Tiled:
        """Return the same tiles with another run."""
        other = copy(self)
        other._run = run
        return other

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return torch.cat([*self.bands(x, lambda part: part)], dim=-2)

    def bands(self, x: Tensor, prepare: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """Yield the output in bands from top to bottom; `prepare` is applied to each tile of x.

        Only two rows of tiles are in memory.
        """
        height, width = x.shape[-2:]
        if self._is_whole(height, width):
            yield self._run(prepare(x))
            return
        tops, above = self._starts(height), list[Tensor]()
        for top in tops:
            across = x[..., top : top + self._side, :]
            parts = (across[..., left : left + self._side] for left in self._starts(width))
            row = [self._run(prepare(part).contiguous()) for part in parts]
            self._fade_all(above, row)
            band = _join(row, self._kept, -1)
            yield band if top == tops[-1] else band.narrow(-2, 0, self._kept)
            above = row

    def band_count(self, height: int, width: int) -> int:
        """Return the number of bands of the output for an input of that size."""
        return 1 if self._is_whole(height, width) else len(self._starts(height))

    def _is_whole(self, height: int, width: int) -> bool:
        return max(height, width) <= self._side or height * width <= self._whole

    def _starts(self, length: int) -> range:
        shared = self._side // _OVERLAP
        return range(0, max(1, length - shared), self._side - shared)

    def _fade_all(self, above: list[Tensor], row: list[Tensor]) -> None:
        """Fade the tiles of a row, in place, into those `above`, if any, and into each other."""
        for j, tile in enumerate(row):
            if above:
                tile = _fade_in(above[j], tile, self._fade, dim=-2)
            if j > 0:
                tile = _fade_in(row[j - 1], tile, self._fade, dim=-1)
            row[j] = tile


def bands(run: Run, x: Tensor, prepare: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Yield the output of `run`(`prepare`(x)) in bands from top to bottom.

    One band, unless `run` processes x in tiles. `prepare` treats each pixel alone.
    """
    if isinstance(run, Tiled):
        yield from run.bands(x, prepare)
    else:
        yield run(prepare(x))


def in_place_of(run: Run, other: Run) -> Run:
    """Return `other` in the tiles of `run`, if `run` has any."""
    return run.running(other) if isinstance(run, Tiled) else other


def band_count(run: Run, height: int, width: int) -> int:
    """Return the number of bands that `bands` yields for an input of that size."""
    return run.band_count(height, width) if isinstance(run, Tiled) else 1


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

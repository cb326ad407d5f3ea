"""Overlapping tiles of one image's latents, and the weights with which they are blended.

Bar-Tal et al. 2023, "MultiDiffusion", equation 7: the prediction for the whole image is the mean of
those for its tiles, weighted by maps W_i and divided by their sum. The paper's maps are constant.
Here a tile has no weight at its outer quarter of the overlap, where the network lacks context,
and fades linearly over the half that follows, so no seam is left and the result of a network that
sees no further than a quarter of the overlap is exactly that for the whole image.

All tiles have one size and lie evenly; `models.denoising.patches` has the sizes and weights of the
paper's super-resolution instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import inf

import torch
from torch import Tensor

Window = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class TileGrid:
    """The tiles of latents of `height` by `width`: `side` wide, at least `overlap` shared.

    `overlap` is at most half of `side`.
    """

    height: int
    width: int
    side: int
    overlap: int

    @property
    def shape(self) -> tuple[int, int]:
        """Return the height and width of every tile."""
        return min(self.side, self.height), min(self.side, self.width)

    @cached_property
    def windows(self) -> list[Window]:
        """Return the places of the tiles, row by row."""
        down, across = self._spans(self.height), self._spans(self.width)
        return list(product(down, across))

    @cached_property
    def weights(self) -> list[Tensor]:
        """Return the weights (h, w) of the tiles, whose sum is 1 everywhere."""
        down = self._weights(self.height)
        across = self._weights(self.width)
        return [rows[:, None] * columns[None, :] for rows, columns in product(down, across)]

    def _spans(self, length: int) -> list[slice]:
        side = min(self.side, length)
        gaps = -(-(length - side) // (self.side - self.overlap))
        starts = [round(n * (length - side) / max(1, gaps)) for n in range(gaps + 1)]
        return [slice(start, start + side) for start in starts]

    def _weights(self, length: int) -> list[Tensor]:
        """Return the weights (side,) of the spans along one dimension."""
        spans = self._spans(length)
        total = torch.zeros(length, dtype=torch.float64)
        weights = []
        for span in spans:
            weight = self._fade(span, length)
            total[span] += weight
            weights.append(weight)
        return [(weight / total[span]).float() for weight, span in zip(weights, spans, strict=True)]

    def _fade(self, span: slice, length: int) -> Tensor:
        """Return the weights of a span before their sum is divided out."""
        place = torch.arange(span.start, span.stop, dtype=torch.float64) + 0.5
        before = place - span.start if span.start > 0 else torch.full_like(place, inf)
        after = span.stop - place if span.stop < length else torch.full_like(place, inf)
        inward = torch.minimum(before, after)
        return ((inward - self.overlap / 4) / max(0.5, self.overlap / 2)).clamp(0, 1)

"""A network run on overlapping patches of something larger than it was trained on.

Rombach et al. 2022, section 4.3.2 and appendix E: the large picture stays one, and at every step
the network's predictions for its patches are blended. So what memory a step takes does not grow
with the picture, every patch sees at its edges what its neighbours have drawn there, and all
patches are rows of one shape, which share batches. Patches as pictures of their own, blended at
the end, would each have drawn something else where they overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

# Of the weight of a prediction, by the share of the patch between it and the nearest edge; as in
# CompVis' published notebook for super-resolution.
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 0.5


@dataclass(frozen=True)
class Patches:
    """Squares of `side`, a new one every `stride`; `rows` of them pass a network at once, but one
    by one where they grow."""

    side: int = 128
    stride: int = 64
    rows: int = 8

    def covers(self, x: Tensor) -> bool:
        """Whether one patch is enough for x (N, C, h, w)."""
        return max(x.shape[-2:]) <= self.side

    def run(
        self, network: Callable[..., Tensor], x: Tensor, *rest: Tensor, scale: int = 1
    ) -> Tensor:
        """`network`(x, …rest) with x (N, C, h, w) in patches -> (N, C', scale·h, scale·w).

        What is not in `rest` for each pixel is the same for all patches.
        """
        if self.covers(x):
            return network(x, *rest)
        height, width = x.shape[-2:]
        windows = list(product(self._spans(height), self._spans(width)))
        inputs = [torch.cat([x[:, :, down, across] for down, across in windows])]
        inputs += [t.repeat(len(windows), *(1 for _ in t.shape[1:])) for t in rest]
        rows = self.rows if scale == 1 else 1
        parts = zip(*(t.split(rows) for t in inputs), strict=True)
        said = torch.cat([network(*part) for part in parts]).unflatten(0, (len(windows), len(x)))
        return _blended(said, windows, (height, width), scale)

    def _spans(self, length: int) -> list[slice]:
        """Of one dimension; the last one ends where that does."""
        side = min(self.side, length)
        starts = [*range(0, length - side, self.stride), length - side]
        return [slice(start, start + side) for start in starts]


def _blended(
    said: Tensor, windows: list[tuple[slice, slice]], size: tuple[int, int], scale: int
) -> Tensor:
    """said (windows, N, C, p, q) -> (N, C, scale·h, scale·w), each by its weights."""
    height, width = size
    total = said.new_zeros(*said.shape[1:3], scale * height, scale * width)
    weights = total.new_zeros(total.shape[-2:])
    weight = _weight(said.shape[-2], said.shape[-1]).to(total)
    for patch, (down, across) in zip(said, windows, strict=True):
        place = (..., _scaled(down, scale), _scaled(across, scale))
        total[place] += weight * patch
        weights[place] += weight
    return total / weights


def _scaled(span: slice, scale: int) -> slice:
    return slice(scale * span.start, scale * span.stop)


def _weight(height: int, width: int) -> Tensor:
    """(height, width): how far it is to the nearest edge, within bounds."""
    inward = [torch.minimum(s := torch.linspace(0, 1, n), 1 - s) for n in (height, width)]
    nearest = torch.minimum(inward[0][:, None], inward[1][None, :])
    return nearest.clamp(LEAST_WEIGHT, MOST_WEIGHT)

"""Overlapping patches, for images larger than the network was trained on.

Rombach et al. 2022, section 4.3.2 and appendix E: the latents of the large image stay whole, and at
every step the network's predictions for their patches are blended. So the memory of a step does not
grow with the image, every patch gets at its edges the result of its neighbours, and all patches are
rows of one shape, which share batches. Patches denoised as separate images and blended at the end
would differ where they overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

# Bounds of the weight of a prediction, which is its distance to the nearest edge as a share of the
# patch; as in CompVis' published notebook for super-resolution.
MIN_WEIGHT, MAX_WEIGHT = 0.01, 0.5


@dataclass(frozen=True)
class Patches:
    """Square patches of `side`, one every `stride`; sizes in latents.

    A network runs on `rows` patches at once, or on single ones if its output is larger than its
    input.
    """

    side: int = 128
    stride: int = 64
    rows: int = 8

    def covers(self, x: Tensor) -> bool:
        """Return True if one patch is enough for x (N, C, h, w)."""
        return max(x.shape[-2:]) <= self.side

    def run(
        self, network: Callable[..., Tensor], x: Tensor, *rest: Tensor, scale: int = 1
    ) -> Tensor:
        """Run `network`(x, …rest) with x (N, C, h, w) in patches -> (N, C', scale·h, scale·w).

        `rest` (N, …) is the same for all patches.
        """
        if self.covers(x):
            return network(x, *rest)
        height, width = x.shape[-2:]
        windows = list(product(self._spans(height), self._spans(width)))
        inputs = [torch.cat([x[:, :, down, across] for down, across in windows])]
        inputs += [t.repeat(len(windows), *(1 for _ in t.shape[1:])) for t in rest]
        rows = self.rows if scale == 1 else 1
        parts = zip(*(t.split(rows) for t in inputs), strict=True)
        outputs = torch.cat([network(*part) for part in parts])
        outputs = outputs.unflatten(0, (len(windows), len(x)))
        return _blend(outputs, windows, (height, width), scale)

    def _spans(self, length: int) -> list[slice]:
        """Return the spans of the patches along one dimension; the last ends at its end."""
        side = min(self.side, length)
        starts = [*range(0, length - side, self.stride), length - side]
        return [slice(start, start + side) for start in starts]


def _blend(
    outputs: Tensor, windows: list[tuple[slice, slice]], size: tuple[int, int], scale: int
) -> Tensor:
    """Return the weighted mean of patches (windows, N, C, p, q): (N, C, scale·h, scale·w)."""
    height, width = size
    total = outputs.new_zeros(*outputs.shape[1:3], scale * height, scale * width)
    weights = total.new_zeros(total.shape[-2:])
    weight = _weight(outputs.shape[-2], outputs.shape[-1]).to(total)
    for patch, (down, across) in zip(outputs, windows, strict=True):
        place = (..., _scaled(down, scale), _scaled(across, scale))
        total[place] += weight * patch
        weights[place] += weight
    return total / weights


def _scaled(span: slice, scale: int) -> slice:
    return slice(scale * span.start, scale * span.stop)


def _weight(height: int, width: int) -> Tensor:
    """Return (height, width) of distances to the nearest edge, clamped to the bounds."""
    inward = [torch.minimum(s := torch.linspace(0, 1, n), 1 - s) for n in (height, width)]
    nearest = torch.minimum(inward[0][:, None], inward[1][None, :])
    return nearest.clamp(MIN_WEIGHT, MAX_WEIGHT)

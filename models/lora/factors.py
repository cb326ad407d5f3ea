"""Low-rank changes: W becomes W + w · scale · up @ down (Hu et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from models.checkpoints.key_plan import Shape
from models.checkpoints.keys.adapters import TensorRole
from models.lora.changes import MatrixChange, Shapes, Tensors, on, without_ones


@dataclass(frozen=True)
class Factors(MatrixChange):
    """A change of rank r: down (r, in) or (r, in, kh, kw), up (out, r) or (out, r, 1, 1).

    mid (r, r, kh, kw) is between the two in some changes of convolutions. scale is alpha / r, or 1
    where the file has no alpha.
    """

    down: Tensor
    up: Tensor
    scale: float
    mid: Tensor | None = None

    roles = frozenset({TensorRole.DOWN, TensorRole.UP, TensorRole.MID})

    @property
    def rows(self) -> int:
        return len(self.up)

    def delta(self, weight: Tensor) -> Tensor:
        down, up = (on(weight.device, t) for t in (self.down, self.up))
        if self.mid is not None:
            mid = on(weight.device, self.mid)
            down = torch.einsum("rqhw,qi->rihw", mid, down.flatten(1))
        return ((self.scale * up.flatten(1)) @ down.flatten(1)).reshape(weight.shape)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape) -> bool:
        if TensorRole.DOWN not in shapes or TensorRole.UP not in shapes:
            return False
        down, up, mid = (shapes.get(r) for r in (TensorRole.DOWN, TensorRole.UP, TensorRole.MID))
        assert down is not None
        assert up is not None
        return _changed_shape(down, up, mid) == without_ones(weight)

    @classmethod
    def rank(cls, shapes: Shapes) -> int | None:
        return shapes[TensorRole.DOWN][0]

    @classmethod
    def of(cls, tensors: Tensors, scale: float) -> Self:
        down, up = tensors[TensorRole.DOWN], tensors[TensorRole.UP]
        return cls(down, up, scale, tensors.get(TensorRole.MID))


def _changed_shape(down: Shape, up: Shape, mid: Shape | None) -> Shape | None:
    """Return the shape of the weight that such factors change, as `without_ones`.

    None if the factors do not fit each other.
    """
    kernel = down[2:] if mid is None else mid[2:]  # the other factors are of one pixel
    pointwise = up[2:] if mid is None else up[2:] + down[2:]
    ranks = {down[:1], up[1:2], *((mid[:1], mid[1:2]) if mid else ())}
    if len(ranks) != 1 or ranks & {(), (0,)} or any(side != 1 for side in pointwise):
        return None
    if min(len(down), len(up)) < 2:
        return None
    return without_ones((up[0], down[1], *kernel))

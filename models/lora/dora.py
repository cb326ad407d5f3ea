"""DoRA: the direction of a weight is changed, and its length learned (Liu et al. 2024).

    W becomes W + w · (m · (W + Δ) / |W + Δ| - W)

Equation 5 at w = 1. The lengths are those of the rows, or of the columns, of the weight as a
matrix. Other strengths blend with the unchanged weight, as in AUTOMATIC1111's web interface and
ComfyUI: at 0 the LoRA has no effect. |W + Δ| is that of the model's own weight with this change
alone, so the order of several LoRAs does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.checkpoints.key_plan import Shape
from models.checkpoints.keys.adapters import TensorRole
from models.lora.changes import Change, Shapes, on

MAGNITUDES = (TensorRole.DORA_SCALE, TensorRole.DORA_MAGNITUDE)


@dataclass(frozen=True)
class Decomposed(Change):
    """A change of direction with learned lengths: magnitude (O,), or (I,) of the columns."""

    direction: Change
    magnitude: Tensor
    of_columns: bool

    @property
    def rows(self) -> int:
        return self.direction.rows

    def delta(self, weight: Tensor) -> Tensor:
        before = weight.float()
        after = before + self.direction.delta(weight)
        kept = 1 if self.of_columns else 0
        others = [dim for dim in range(after.ndim) if dim != kept]
        length = torch.linalg.vector_norm(after, dim=others, keepdim=True)
        length = length + torch.finfo(torch.float32).eps  # of a row of zeros
        return after * (on(weight.device, self.magnitude).reshape(length.shape) / length) - before


def magnitude_axis(shapes: Shapes, weight: Shape) -> int | None:
    """Return 0 for lengths of rows, 1 for those of columns; None if they fit neither."""
    [shape] = (shapes[role] for role in MAGNITUDES if role in shapes)
    sides = [side for side in shape if side != 1] or [1]
    if len(sides) > 1 or len(shape) > len(weight):
        return None
    by_columns = TensorRole.DORA_SCALE in shapes and len(shape) > 1 and shape[0] == 1
    axis = 1 if by_columns and weight[0] != 1 else 0
    return axis if sides[0] == weight[axis] else None

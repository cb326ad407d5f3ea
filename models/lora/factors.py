"""The change of one layer by a LoRA: W becomes W + w · scale · up @ down (Hu et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.checkpoints.key_plan import Shape


@dataclass(frozen=True)
class Factors:
    """A change of rank r: down (r, in) or (r, in, kh, kw), up (out, r) or (out, r, 1, 1).

    mid (r, r, kh, kw) is between the two in some changes of convolutions. scale is alpha / r, or 1
    where the file has no alpha.
    """

    down: Tensor
    up: Tensor
    scale: float
    mid: Tensor | None = None

    def delta(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Return the change of a weight of `shape`, at full strength, float32 on `device`."""
        down, up = (t.to(device, torch.float32) for t in (self.down, self.up))
        if self.mid is not None:
            mid = self.mid.to(device, torch.float32)
            down = torch.einsum("rqhw,qi->rihw", mid, down.flatten(1))
        return ((self.scale * up.flatten(1)) @ down.flatten(1)).reshape(shape)


def changed_shape(down: Shape, up: Shape, mid: Shape | None) -> Shape | None:
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


def without_ones(shape: Shape) -> Shape:
    """Return a 1×1 convolution's shape (O, I, 1, 1) as that of a linear layer, (O, I)."""
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape

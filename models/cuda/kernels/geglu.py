"""Value times gelu(gate) in one pass: PyTorch's needs two, through an intermediate in memory."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


def geglu(projected: Tensor) -> Tensor:
    """Compute `models.networks.unet.geglu`: (..., 2·inner) -> (..., inner)."""
    projected = projected.contiguous()
    inner = projected.shape[-1] // 2
    out = projected.new_empty((*projected.shape[:-1], inner))
    rows = out.numel() // inner
    _geglu[(rows, triton.cdiv(inner, BLOCK))](projected, out, inner, BLOCK)
    return out


@triton.jit
def _geglu(projected, out, inner, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < inner
    at = row * 2 * inner + column
    value = tl.load(projected + at, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(projected + at + inner, mask=inside, other=0.0).to(tl.float32)
    # The exact gelu, not its tanh approximation: x · Φ(x), with 1/√2 = 0.7071….
    gelu = 0.5 * gate * (1.0 + tl.math.erf(gate * 0.7071067811865476))
    tl.store(out + row * inner + column, value * gelu, mask=inside)

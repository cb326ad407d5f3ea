"""The complete update of every slot after a run of the network, in one pass.

PyTorch's operators read and write the latents about twenty times for it, each in its own launch,
for which a step of few rows has no time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.denoising.slot_update import COLUMNS

BLOCK = 512


def slot_update(
    x: Tensor,
    positive: Tensor,
    negative: Tensor,
    blank: Tensor,
    history: Tensor,
    fresh: Tensor,
    mask: Tensor,
    latents: Tensor,
    unit: Tensor,
    coefficients: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compute `models.denoising.slot_update.slot_update`."""
    batch, channels, height, width = x.shape
    pixels, depth = height * width, history.shape[1]
    inputs = (x, positive, negative, blank, history, fresh, mask, latents, unit, coefficients)
    new_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    new_history = torch.empty_like(history, memory_format=torch.contiguous_format)
    _update[(batch, channels, triton.cdiv(pixels, BLOCK))](
        *(t.contiguous() for t in inputs), new_x, new_history,
        pixels, COLUMNS, depth, BLOCK,
    )  # fmt: skip
    return new_x, new_history


@triton.jit
def _update(
    x, positive, negative, blank, history, fresh, mask, latents, unit, coefficients,
    new_x, new_history, pixels, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Update one block of one channel of one slot."""
    slot, channel = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channels = tl.num_programs(1)
    pixel = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    at = (slot * channels + channel) * pixels + pixel
    row = coefficients + slot * (COLUMNS + DEPTH)
    cond = tl.load(positive + at, mask=inside, other=0.0).to(tl.float32)
    uncond = tl.load(negative + at, mask=inside, other=0.0).to(tl.float32)
    nothing = tl.load(blank + at, mask=inside, other=0.0).to(tl.float32)
    without_prompt = nothing + tl.load(row + 1) * (uncond - nothing)
    output = without_prompt + tl.load(row) * (cond - uncond)
    before = tl.load(x + at, mask=inside, other=0.0)
    prediction = tl.load(row + 2) * before + tl.load(row + 3) * output
    after = tl.load(row + 4) * before + tl.load(row + COLUMNS) * prediction
    past = (slot * DEPTH * channels + channel) * pixels + pixel
    tl.store(new_history + past, prediction, mask=inside)
    for k in tl.static_range(1, DEPTH):
        earlier = tl.load(history + past + (k - 1) * channels * pixels, mask=inside, other=0.0)
        tl.store(new_history + past + k * channels * pixels, earlier, mask=inside)
        after += tl.load(row + COLUMNS + k) * earlier
    after += tl.load(row + 5) * tl.load(fresh + at, mask=inside, other=0.0)
    kept = tl.load(row + 6) * tl.load(latents + at, mask=inside, other=0.0)
    kept += tl.load(row + 7) * tl.load(unit + at, mask=inside, other=0.0)
    generated = tl.load(mask + slot * pixels + pixel, mask=inside, other=1.0)
    tl.store(new_x + at, generated * after + (1.0 - generated) * kept, mask=inside)

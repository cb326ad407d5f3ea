"""What happens to the slots of a batch once the network has spoken, as one function.

It is the row of each slot's sampler table (`models.samplers.table`), with guidance (Ho & Salimans
2022, equation 6) before it and the known region of an inpainted picture behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Of the coefficients, before the weights on the history: guidance scale, predict_x,
# predict_output, keep_x, noise, known_signal, known_noise.
COLUMNS = 7

SlotUpdate = Callable[..., tuple[Tensor, Tensor]]


def slot_update(
    x: Tensor,
    positive: Tensor,
    negative: Tensor,
    history: Tensor,
    fresh: Tensor,
    mask: Tensor,
    latents: Tensor,
    unit: Tensor,
    coefficients: Tensor,
) -> tuple[Tensor, Tensor]:
    """(x, history) before the row -> (x, history) after it.

    x, fresh (new noise), latents and unit (the known picture and its noise) are (B, C, h, w)
    float32; positive and negative are the network's output with and without the prompt, of that
    shape and any dtype, equal where a picture is not guided; history (B, H, C, h, w), newest
    first; mask (B, 1, h, w), 1 where a picture is painted; coefficients (B, COLUMNS + H) float32.
    """
    columns = coefficients[:, :COLUMNS, None, None, None].unbind(1)
    guidance, from_x, from_output, keep, noise, signal, known_noise = columns
    output = negative.float() + guidance * (positive.float() - negative.float())
    prediction = from_x * x + from_output * output
    history = torch.cat([prediction[:, None], history[:, :-1]], dim=1)
    weights = coefficients[:, COLUMNS:, None, None, None]
    after = keep * x
    for k in range(history.shape[1]):  # one after another: a sum's order may depend on the batch
        after = after + weights[:, k] * history[:, k]
    after = after + noise * fresh
    kept = signal * latents + known_noise * unit
    return mask * after + (1 - mask) * kept, history

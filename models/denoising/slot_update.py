"""Update of the slots of a batch from the network's output, as one function.

It applies the current row of each slot's sampler table (`models.samplers.table`), preceded by
guidance (Ho & Salimans 2022, equation 6; with an image too, Brooks et al. 2023, equation 3) and
followed by the known region of inpainting.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Coefficients before the weights on the history: guidance scale, image guidance scale, predict_x,
# predict_output, keep_x, noise, known_signal, known_noise.
COLUMNS = 8

SlotUpdate = Callable[..., tuple[Tensor, Tensor]]


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
    """Return (x, history) after the row, from (x, history) before it.

    x, fresh (new noise), latents and unit (of the known image, and its noise) are (B, C, h, w)
    float32. positive, negative and blank are the network's outputs that `guided_output` combines,
    of that shape and any dtype. history (B, H, C, h, w) is newest first. mask (B, 1, h, w) is 1
    where the image is generated. coefficients (B, COLUMNS + H) are float32.
    """
    columns = coefficients[:, :COLUMNS, None, None, None].unbind(1)
    guidance, image_guidance, from_x, from_output, keep, noise, signal, known_noise = columns
    output = guided_output(
        positive.float(), negative.float(), blank.float(), guidance, image_guidance
    )
    prediction = from_x * x + from_output * output
    history = torch.cat([prediction[:, None], history[:, :-1]], dim=1)
    weights = coefficients[:, COLUMNS:, None, None, None]
    after = keep * x
    for k in range(history.shape[1]):  # in sequence: the order of a sum may depend on the batch
        after = after + weights[:, k] * history[:, k]
    after = after + noise * fresh
    kept = signal * latents + known_noise * unit
    return mask * after + (1 - mask) * kept, history


def guided_output(
    positive: Tensor,
    negative: Tensor,
    blank: Tensor,
    guidance: Tensor | float,
    image_guidance: Tensor | float,
) -> Tensor:
    """Return the guided output of the network (Brooks et al. 2023, equation 3).

    From its outputs with the positive prompt, with the negative prompt, and with the negative
    prompt and no image. The latter two are equal for images without image guidance, which then has
    no effect; all three for images without guidance.
    """
    without_prompt = blank + image_guidance * (negative - blank)
    return without_prompt + guidance * (positive - negative)

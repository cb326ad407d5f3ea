"""Emphasis: weights of a prompt's words, applied to the output of the text encoder."""

from __future__ import annotations

import torch
from torch import Tensor

# A mean that changed by more than the largest weight was near zero before.
MAX_RATIO = 10.0


def apply_emphasis(context: Tensor, weights: Tensor) -> Tensor:
    """Multiply every position of context (R, T, D) by its weight (R, T), keeping the mean of rows.

    The rule of AUTOMATIC1111's web interface ("Original" emphasis, modules/sd_emphasis.py): the
    mean over a row's positions and channels stays the same, so that a prompt of many strong words
    does not grow as a whole. There the divisor may be near zero; here a row whose mean changed
    sign, or by more than `MAX_RATIO`, stays as scaled. A row of ones is returned bit for bit.
    """
    unscaled = context.float()
    scaled = unscaled * weights[..., None]
    ratio = unscaled.mean((1, 2), keepdim=True) / scaled.mean((1, 2), keepdim=True)
    valid = (ratio >= 1 / MAX_RATIO) & (ratio <= MAX_RATIO)
    return (scaled * torch.where(valid, ratio, 1.0)).to(context.dtype)

"""Weights of a prompt's words, put on what the text encoder made of them."""

from __future__ import annotations

import torch
from torch import Tensor

# A mean that moved farther than the largest weight could take it was near zero to begin with.
FARTHEST = 10.0


def emphasised(context: Tensor, weights: Tensor) -> Tensor:
    """context (R, T, D), every position times its weight (R, T), each row back at its mean.

    The rule of AUTOMATIC1111's web interface ("Original" emphasis, modules/sd_emphasis.py): the
    mean over a row's positions and channels is what it was, so that a prompt full of strong words
    does not grow as a whole. There it may divide by nearly nothing; here a row whose mean changed
    sign, or by more than `FARTHEST`, stays as scaled. A row of ones is returned bit for bit.
    """
    said = context.float()
    scaled = said * weights[..., None]
    ratio = said.mean((1, 2), keepdim=True) / scaled.mean((1, 2), keepdim=True)
    sound = (ratio >= 1 / FARTHEST) & (ratio <= FARTHEST)
    return (scaled * torch.where(sound, ratio, 1.0)).to(context.dtype)

"""Decoding again in single precision, where half precision has overflowed.

Some autoencoders, SDXL's first, have features beyond the range of half precision for some latents.
The image is then not a number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.autoencoders.first_stage import FirstStage


class Overflows:
    """The number of images that were decoded again, for metrics."""

    def __init__(self) -> None:
        self.count = 0


def single_precision_decoder(stage: FirstStage) -> Callable[..., Tensor]:
    """Return a decoder with the weights of `stage` in single precision.

    It is a network of its own, which is freed with the function: overflows are rare.
    """
    parameter = next(stage.parameters())
    network = type(stage)(stage.config)
    network.load_state_dict({name: t.float() for name, t in stage.state_dict().items()})
    network = network.to(parameter.device).eval().requires_grad_(False)
    return lambda z: network.decode(z.float())


def overflowed(image: Tensor) -> bool:
    """Return True for a decoded image that is not a number somewhere."""
    return image.dtype == torch.float16 and not bool(torch.isfinite(image).all())

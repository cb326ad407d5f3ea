"""What a worker does between loading and ready: choose the fastest attention, run once."""

from __future__ import annotations

import torch

from models.attention import available_kernels, choose_kernels, use_kernel
from models.pipeline import LatentDiffusion, Recipe


def warm_up(model: LatentDiffusion, attention: str, width: int, height: int) -> None:
    """Draw one step at the default size, so that no client pays for first-time set-up.

    `attention` is "auto" (each layer gets the kernel that measures fastest for its shape) or the
    name of one kernel. Raises ValueError if that kernel is not available here.
    """
    recipe = Recipe("", width=width, height=height, steps=1, guidance_scale=2.0)

    def one_step() -> None:
        last = list(model.generate([recipe]))[-1]
        model.decode(torch.stack([t.x for t in last]))

    if attention == "auto":
        choose_kernels(model.unet, one_step)
    else:
        kernels = available_kernels()
        if attention not in kernels:
            raise ValueError(
                f"attention kernel is {attention!r}, but here are {', '.join(kernels)}"
            )
        use_kernel(model.unet, kernels[attention])
    one_step()

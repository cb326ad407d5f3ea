"""Quality check for FP8: the difference that a faster arithmetic may make to an image.

The measure is the peak signal-to-noise ratio of images generated from the same seeds with and
without it. Denoising amplifies small differences from step to step, so this is stricter than a
comparison of single runs of the network, and it is the visible difference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.denoising.sampling_params import SamplingParams
from models.pipeline import LatentDiffusion

# Mean over the compared images. At 25 dB two images look alike side by side: same objects, same
# places, other details of texture.
REQUIRED_DB = 25.0


def psnr(images: Tensor, others: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio in dB of images (B, H, W, 3) uint8.

    It is infinite for equal images.
    """
    difference = images.float() - others.float()
    errors = difference.square().flatten(1).mean(1)
    return float((10 * torch.log10(255**2 / errors)).mean())


def compare(model: LatentDiffusion, other: LatentDiffusion, size: tuple[int, int]) -> float:
    """Return `psnr` of the images of both models; `size` is width, height in pixels."""
    return psnr(_generate(model, size), _generate(other, size))


PROMPTS = ("a red heart", "a photograph of a cat", "a tree on a hill", "the moon above the sea")
STEPS = 8


def _generate(model: LatentDiffusion, size: tuple[int, int]) -> Tensor:
    (width, height), (sampler, schedule) = size, model.noise_schedule.default_sampler
    params = [
        SamplingParams(
            prompt,
            width=width,
            height=height,
            steps=STEPS,
            sampler=sampler,
            schedule=schedule,
            seed=seed,
        )
        for seed, prompt in enumerate(PROMPTS)
    ]
    last = list(model.generate(params))[-1]
    return model.decode(torch.stack([t.x for t in last]))

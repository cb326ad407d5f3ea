"""Images of a model for all names and several seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from models.denoising.sampling_params import SamplingParams
from models.pipeline import LatentDiffusion

_BATCH = 20


@dataclass(frozen=True)
class Generation:
    """Settings of the evaluation: those that the page offers first."""

    seeds: int = 4
    steps: int = 20
    guidance_scale: float = 4.0
    sampler: str = "dpmpp_2m"


@torch.inference_mode()
def generate(model: LatentDiffusion, prompts: list[str], how: Generation) -> Tensor:
    """Return the latents of all prompts (N · seeds, C, h, w), those of one prompt together."""
    side = model.unet.config.sample_size * model.autoencoder.config.factor
    common = SamplingParams(
        width=side,
        height=side,
        steps=how.steps,
        guidance_scale=how.guidance_scale,
        sampler=how.sampler,
    )
    params = [replace(common, prompt=p, seed=seed) for p in prompts for seed in range(how.seeds)]
    latents = []
    for start in tqdm(range(0, len(params), _BATCH), desc="generating", unit="batch"):
        *_, batch = model.generate(params[start : start + _BATCH])
        latents += [state.x.cpu() for state in batch]
    return torch.stack(latents)


def decode(model: LatentDiffusion, latents: Tensor) -> npt.NDArray[np.uint8]:
    """Return the pixels (N, H, W, 3) of latents."""
    return np.concatenate(
        [model.decode(part.to(model.device)).numpy() for part in latents.split(_BATCH)]
    )


def resized(pixels: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Return square images (N, H, H, 3) with another side: averaged if smaller, else by Lanczos."""
    old = pixels.shape[1]
    if old == side:
        return pixels
    how = Image.Resampling.BOX if side < old else Image.Resampling.LANCZOS
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((side, side), how)) for image in pixels]
    )

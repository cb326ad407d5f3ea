"""One picture, complete: what the networks of a model are asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Recipe:
    """What `LatentDiffusion.start` needs beside the model.

    image (3, H, W) in [-1, 1] is what img2img and inpainting start from, mask (1, H, W) is 1
    where the picture is repainted. width and height are those of the picture, in pixels.
    guided_between: the shares of the steps between which guidance is applied. until: the share of
    the noise schedule after which another model goes on, as SDXL's refiner does (Podell et al.
    2023, section 2.5). aesthetic_score is what the refiner is told, about 1 to 10.
    """

    prompt: str
    negative_prompt: str = ""
    width: int = 512
    height: int = 512
    steps: int = 30
    sampler: str = "dpmpp_2m"
    schedule: str = "trailing"
    guidance_scale: float = 7.5
    guided_between: tuple[float, float] = (0.0, 1.0)
    seed: int = 0
    strength: float = 1.0
    image: Tensor | None = None
    mask: Tensor | None = None
    until: float = 1.0
    aesthetic_score: float = 6.0

"""Sampling parameters of one image, complete, as the networks of a model take them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from models.networks.controlnet import ControlNet
from models.text.weighted_prompt import WeightedPrompt


@dataclass(frozen=True)
class ControlImage:
    """Input of one ControlNet: image (3, H, W) in [0, 1], resized to the size of the result.

    weight: the factor of its residuals. interval: the shares of the steps between which it acts.
    """

    net: ControlNet
    image: Tensor
    weight: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Box:
    """Place of an object of a class: left upper corner and extent, as shares of the sides."""

    class_id: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class SamplingParams:
    """Input of `LatentDiffusion.start`: everything that determines an image, except the model.

    image (3, H, W) in [-1, 1], or uint8, is the start of img2img and inpainting; mask (1, H, W) is
    1 where the image is inpainted, or, with soft_mask, the strength of each pixel. masked_noise:
    the factor of the initial noise that replaces the image where it is marked; None keeps it.
    noise_multiplier: a factor of the initial noise. width and height are in pixels.
    guidance_interval: the shares of the steps between which guidance is applied.
    image_guidance_scale: the strength of guidance by the image, for networks that edit images.
    guidance_rescale in [0, 1] limits the contrast that guidance adds. eta in [0, 1]: the share of
    fresh noise in a step of "ddim". denoising_end: the share of the noise schedule after which
    another model continues, as SDXL's refiner does (Podell et al. 2023, section 2.5).
    aesthetic_score, about 1 to 10, conditions the refiner. clip_skip: the number of layers left out
    at the end of a CLIP text encoder, in addition to those the model leaves out.

    depth (1, H, W), in any range and size, the nearer the larger, is for networks that are
    conditioned on the depth of the image.

    For the paper's other tasks: class_id; boxes; low_res (3, h, w) in [-1, 1], the image to
    upscale; labels (1, H, W), the class of each pixel. noise_level: the timestep up to which noise
    is added to low_res, for networks that are conditioned on it.
    """

    prompt: str | WeightedPrompt = ""
    negative_prompt: str | WeightedPrompt = ""
    width: int = 512
    height: int = 512
    steps: int = 30
    sampler: str = "dpmpp_2m"
    schedule: str = "trailing"
    eta: float = 0.0
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.0
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    seed: int = 0
    strength: float = 1.0
    image: Tensor | None = None
    mask: Tensor | None = None
    soft_mask: bool = False
    masked_noise: float | None = None
    noise_multiplier: float = 1.0
    controls: tuple[ControlImage, ...] = ()
    denoising_end: float = 1.0
    aesthetic_score: float = 6.0
    class_id: int = 0
    boxes: tuple[Box, ...] = ()
    depth: Tensor | None = None
    low_res: Tensor | None = None
    noise_level: int = 0
    labels: Tensor | None = None
    clip_skip: int = 0

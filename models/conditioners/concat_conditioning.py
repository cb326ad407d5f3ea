"""Concat conditioning: further input channels of some networks, the same at every step.

Rombach et al. 2022, section 4.3: "spatially aligned conditioning". Inputs that the sampling
parameters lack are blank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.denoising.masks import latent_mask, marked
from models.denoising.sampling_params import SamplingParams
from models.networks.embedders import SpatialRescaler
from models.samplers.noise_schedule import NoiseSchedule

Size = tuple[int, int]  # (h, w) of latents


class ImageEncoder(Protocol):
    """Encoder of an image (3, H, W) in [-1, 1] to latents (C, h, w) of unit variance."""

    def mode(self, image: Tensor) -> Tensor: ...

    def unscaled_mode(self, image: Tensor) -> Tensor:
        """Return the mode of the latents, not scaled to unit variance."""

    def sample(self, image: Tensor) -> Tensor:
        """Return a sample of the latents, with the next noise of the image to generate."""

    def fresh_noise(self, shape: tuple[int, int, int]) -> Tensor:
        """Return the next noise of the image to generate, in another shape."""


class ConcatConditioning(Protocol):
    """Source of the further input channels of a network."""

    @property
    def is_inpainting(self) -> bool:
        """Return True if the network is conditioned on the masked image and the mask."""

    @property
    def holds_image(self) -> bool:
        """Return True if the network is conditioned on the initial image, so that it is known to it
        even if the latents begin as noise."""

    @property
    def comes_first(self) -> bool:
        """Return True if its noise comes before the initial noise of the latents."""

    def count(self, latent_channels: int) -> int:
        """Return K, the number of channels next to that many of the latents."""

    def channels(self, params: SamplingParams, size: Size, encoder: ImageEncoder) -> Tensor:
        """Return (K, h, w) for latents of `size` (h, w)."""


@dataclass(frozen=True)
class PaperInpaintingConditioning:
    """The masked image, encoded, and the mask: (C + 1, h, w).

    As in CompVis/latent-diffusion, scripts/inpaint.py: the masked region is black, the mask has -1
    and 1.
    """

    is_inpainting: bool = True
    holds_image: bool = True
    comes_first: bool = False

    def count(self, latent_channels: int) -> int:
        return latent_channels + 1

    def channels(self, params: SamplingParams, size: Size, encoder: ImageEncoder) -> Tensor:
        image, mask = _image_and_mask(params)
        masked = encoder.mode(torch.where(marked(mask), -1.0, image))
        small_mask = 2 * latent_mask(mask, size) - 1
        return torch.cat([masked, small_mask.to(masked)])


@dataclass(frozen=True)
class StableInpaintingConditioning:
    """The mask, 0 and 1, and the image with the masked region grey, encoded: (1 + C, h, w).

    As in runwayml/stable-diffusion, scripts/inpaint_st.py, which samples the latents.
    """

    is_inpainting: bool = True
    holds_image: bool = True
    comes_first: bool = False

    def count(self, latent_channels: int) -> int:
        return latent_channels + 1

    def channels(self, params: SamplingParams, size: Size, encoder: ImageEncoder) -> Tensor:
        image, mask = _image_and_mask(params)
        masked = encoder.sample(torch.where(marked(mask), 0.0, image))
        return torch.cat([latent_mask(mask, size).to(masked), masked])


@dataclass(frozen=True)
class EditConditioning:
    """The image to edit, encoded: (C, h, w) (Brooks et al. 2023, "InstructPix2Pix", section 3.2).

    The published models were trained on latents that are not scaled to unit variance; CosXL's on
    latents that are. scaled: the latter.
    """

    scaled: bool = False
    is_inpainting: bool = False
    holds_image: bool = True
    comes_first: bool = False

    def count(self, latent_channels: int) -> int:
        return latent_channels

    def channels(self, params: SamplingParams, size: Size, encoder: ImageEncoder) -> Tensor:
        blank = torch.zeros(3, params.height, params.width)
        image = blank if params.image is None else params.image
        return encoder.mode(image) if self.scaled else encoder.unscaled_mode(image)


@dataclass(frozen=True)
class DepthConditioning:
    """A map of the image's depth in [-1, 1], the nearer the larger: (1, h, w).

    Resized to the latents and spread over the whole range, as in Stability-AI/stablediffusion,
    scripts/gradio/depth2img.py. A flat map is 0.
    """

    device: torch.device
    is_inpainting: bool = False
    holds_image: bool = False
    comes_first: bool = False

    def count(self, latent_channels: int) -> int:
        return 1

    def channels(self, params: SamplingParams, size: Size, encoder: ImageEncoder) -> Tensor:
        if params.depth is None:
            return torch.zeros(1, *size, device=self.device)
        depth = params.depth.to(self.device)[None]
        resized = F.interpolate(depth, size=size, mode="bicubic", align_corners=False)[0]
        low, high = resized.amin(), resized.amax()
        return 2 * (resized - low) / (high - low) - 1 if high > low else torch.zeros_like(resized)


@dataclass(frozen=True)
class LowResolutionConditioning:
    """The image to upscale, unchanged: (3, h, w) (Rombach et al. 2022, section 4.4)."""

    device: torch.device
    is_inpainting: bool = False
    holds_image: bool = False
    comes_first: bool = False

    def count(self, latent_channels: int) -> int:
        return 3

    def channels(self, params: SamplingParams, size: Size, encoder: ImageEncoder) -> Tensor:
        if params.low_res is None:
            return torch.zeros(3, *size, device=self.device)
        return params.low_res.to(self.device)


@dataclass(frozen=True)
class NoisyImageConditioning:
    """The image to upscale with noise of the given level: (3, h, w).

    Stability-AI/stablediffusion, ldm/modules/diffusionmodules/upscaling.py,
    ImageConcatWithNoiseAugmentation. The level, at most `max_level`, is a timestep of
    `noise_schedule`, which is not the one of the latents. The network is told it as a label.
    """

    device: torch.device
    noise_schedule: NoiseSchedule
    max_level: int
    is_inpainting: bool = False
    holds_image: bool = False
    comes_first: bool = True

    def count(self, latent_channels: int) -> int:
        return 3

    def channels(self, params: SamplingParams, size: Size, encoder: ImageEncoder) -> Tensor:
        noise = encoder.fresh_noise((3, *size))
        image = torch.zeros_like(noise) if params.low_res is None else params.low_res.to(noise)
        signal = float(self.noise_schedule.alphas_cumprod[params.noise_level])
        return signal**0.5 * image + (1 - signal) ** 0.5 * noise


@dataclass(frozen=True)
class SemanticMapConditioning:
    """A map of classes, resized to the latents: (3, h, w) (section 4.3.2)."""

    rescaler: SpatialRescaler
    device: torch.device
    is_inpainting: bool = False
    holds_image: bool = False
    comes_first: bool = False

    @property
    def classes(self) -> int:
        return self.rescaler.config.in_channels

    def count(self, latent_channels: int) -> int:
        return self.rescaler.config.out_channels

    @torch.inference_mode()
    def channels(self, params: SamplingParams, size: Size, encoder: ImageEncoder) -> Tensor:
        shape = (1, params.height, params.width)
        labels = torch.zeros(shape) if params.labels is None else params.labels
        one_hot = F.one_hot(labels.long(), self.classes).movedim(-1, 1)
        weight = self.rescaler.channel_mapper.weight
        resized: Tensor = self.rescaler(one_hot.to(weight))[0]
        return resized.float()


def _image_and_mask(params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Return image (3, H, W) and mask (1, H, W); without them everything is inpainted."""
    size = (params.height, params.width)
    image = torch.zeros(3, *size) if params.image is None else params.image
    return image, torch.ones(1, *size) if params.mask is None else params.mask

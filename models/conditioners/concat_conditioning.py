"""What some networks are shown beside the latents: further channels of their input, at every step.

Rombach et al. 2022, section 4.3: "spatially aligned conditioning". What a recipe leaves out is
shown blank.
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


class Encoding(Protocol):
    """What a picture (3, H, W) in [-1, 1] is as latents (C, h, w), scaled to unit variance."""

    def likeliest(self, image: Tensor) -> Tensor: ...

    def sample(self, image: Tensor) -> Tensor:
        """By the next noise that is drawn for the picture to be."""


class Beside(Protocol):
    """Makes of a recipe what its network is shown."""

    @property
    def repaints(self) -> bool:
        """Whether the network itself sees what is to stay of the picture."""

    def channels(self, recipe: SamplingParams, size: tuple[int, int], encoding: Encoding) -> Tensor:
        """(K, h, w) for latents of `size` (h, w)."""


@dataclass(frozen=True)
class PaperInpainting:
    """The picture without what is to be repainted, encoded, and the mask: (C + 1, h, w).

    As in CompVis/latent-diffusion, scripts/inpaint.py: the hole is black, the mask -1 and 1.
    """

    repaints: bool = True

    def channels(self, recipe: SamplingParams, size: tuple[int, int], encoding: Encoding) -> Tensor:
        image, mask = _given(recipe)
        seen = encoding.likeliest(torch.where(marked(mask), -1.0, image))
        hole = 2 * latent_mask(mask, size) - 1
        return torch.cat([seen, hole.to(seen)])


@dataclass(frozen=True)
class StableInpainting:
    """The mask, 0 and 1, and the picture with a grey hole, encoded: (1 + C, h, w).

    As in runwayml/stable-diffusion, scripts/inpaint_st.py, which samples the latents.
    """

    repaints: bool = True

    def channels(self, recipe: SamplingParams, size: tuple[int, int], encoding: Encoding) -> Tensor:
        image, mask = _given(recipe)
        seen = encoding.sample(torch.where(marked(mask), 0.0, image))
        hole = latent_mask(mask, size)
        return torch.cat([hole.to(seen), seen])


@dataclass(frozen=True)
class SmallPicture:
    """The picture to be upscaled, as it is: (3, h, w) (Rombach et al. 2022, section 4.4)."""

    device: torch.device
    repaints: bool = False

    def channels(self, recipe: SamplingParams, size: tuple[int, int], encoding: Encoding) -> Tensor:
        if recipe.small is None:
            return torch.zeros(3, *size, device=self.device)
        return recipe.small.to(self.device)


@dataclass(frozen=True)
class ClassMap:
    """A map of classes, brought to the size of the latents: (3, h, w) (section 4.3.2)."""

    rescaler: SpatialRescaler
    device: torch.device
    repaints: bool = False

    @property
    def classes(self) -> int:
        return self.rescaler.config.in_channels

    @torch.inference_mode()
    def channels(self, recipe: SamplingParams, size: tuple[int, int], encoding: Encoding) -> Tensor:
        shape = (1, recipe.height, recipe.width)
        labels = torch.zeros(shape) if recipe.labels is None else recipe.labels
        one_hot = F.one_hot(labels.long(), self.classes).movedim(-1, 1)
        weight = self.rescaler.channel_mapper.weight
        shown: Tensor = self.rescaler(one_hot.to(weight))[0]
        return shown.float()


def _given(recipe: SamplingParams) -> tuple[Tensor, Tensor]:
    """Image (3, H, W) and mask (1, H, W); without them all is to be painted."""
    size = (recipe.height, recipe.width)
    image = torch.zeros(3, *size) if recipe.image is None else recipe.image
    return image, torch.ones(1, *size) if recipe.mask is None else recipe.mask

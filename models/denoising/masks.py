"""Inpainting masks (1, H, W) in [0, 1]: pixels of 0.5 and above are marked, to be inpainted."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MARKED = 0.5


def marked(mask: Tensor) -> Tensor:
    """Return True for the pixels to inpaint."""
    return mask >= MARKED


def latent_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a mask to latents of `size` (h, w): (1, H, W) -> (1, h, w) of zeros and ones.

    A latent is marked if any of its pixels is, or a stroke thinner than the factor of the
    autoencoder would have no effect. diffusers and CompVis take one pixel of each latent instead
    (nearest neighbour).
    """
    return F.adaptive_max_pool2d(marked(mask).float(), size)


def restore_unmarked(image: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Return the decoded `image` with the pixels of `original` where `mask` is not marked.

    image: (H, W, C) uint8 with C >= 3; channels after the colours, such as depth, are unchanged.
    original: (3, H, W) in [-1, 1], whose levels are multiples of 1/255 and so come back exactly.
    """
    colours, others = image[..., :3], image[..., 3:]
    kept = ((original / 2 + 0.5) * 255).round().to(torch.uint8).movedim(0, -1)
    return torch.cat([torch.where(marked(mask).movedim(0, -1), colours, kept), others], dim=-1)

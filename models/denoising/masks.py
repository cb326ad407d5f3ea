"""Inpainting masks (1, H, W) in [0, 1].

In a hard mask, pixels of 0.5 and above are marked, to be inpainted. In a soft mask the value of
each pixel is its strength: Levin & Fried 2023, "Differential Diffusion".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.samplers.table import SamplerTable

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


def latent_strengths(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a soft mask to latents of `size` (h, w): each has the largest of its pixels."""
    return F.adaptive_max_pool2d(mask, size)


def first_rows(strengths: Tensor, table: SamplerTable) -> Tensor:
    """Return the row of `table` from which on each latent is generated; until then it is known.

    The last share of the rows is as large as the strength, a number in [0, 1]: row i of n generates
    a latent if its strength is at least 1 - i/n. A row that undoes the noise of the row before is
    not the first.
    """
    rows = len(table)
    starts = [row + bool(table.carried_noise[row]) for row in range(rows)] + [rows]
    wanted = torch.ceil(rows * (1 - strengths.double())).long()
    return torch.tensor(starts, device=strengths.device)[wanted]


@dataclass(frozen=True)
class MaskedContent:
    """The content of the marked latents at the start, in place of the image.

    mask (1, h, w) is 1 where they are marked. noise is the factor of the initial noise: 1, or 0 for
    nothing.
    """

    mask: Tensor
    noise: float

    def replace(self, source: Tensor, unit: Tensor) -> Tensor:
        """Return the `source` latents with the content; unit: the initial noise, both (C, h, w)."""
        return (1 - self.mask) * source + self.mask * self.noise * unit


def restore_unmarked(image: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Return the decoded `image` with the pixels of `original` where `mask` is not marked.

    image: (H, W, C) uint8 with C >= 3; channels after the colours, such as depth, are unchanged.
    original: (3, H, W) in [-1, 1], whose levels are multiples of 1/255 and so come back exactly.
    """
    colours, others = image[..., :3], image[..., 3:]
    kept = ((original / 2 + 0.5) * 255).round().to(torch.uint8).movedim(0, -1)
    return torch.cat([torch.where(marked(mask).movedim(0, -1), colours, kept), others], dim=-1)

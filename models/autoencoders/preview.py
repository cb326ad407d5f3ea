"""Small and fast previews of an image that is still being denoised.

The clean latents that the network currently predicts follow from the noisy latents and the
network's latest output. They are decoded by a tiny autoencoder, or else their channels are mixed to
colours, one pixel for each latent, by a linear map fitted to the model's own decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoders.first_stage import FirstStage
from models.autoencoders.pixels import RGB, to_bytes
from models.samplers import SamplerTable
from models.samplers.noise_schedule import Level, NoiseLevels

MAX_SIDE = 256  # of a preview, in pixels

_FIT_SIDE = 16  # latents along each side of the samples that the map is fitted to


def clean_latents(
    table: SamplerTable, row: int, noise_schedule: NoiseLevels, x: Tensor, prediction: Tensor
) -> Tensor | None:
    """Return the clean latents that the network predicts at `row`; all tensors have one shape.

    x: the latents before the row; prediction: the entry that the row added to the history. Both are
    mixtures of the clean latents z0 and of unit noise e, so that two equations give z0:

        x          = s z0 + n e,  the level that the row before has reached
        prediction = a z0 + b e

    None at row 0, where the table does not contain the level, or where both equations are the same.
    """
    if row == 0:
        return None
    s, n = table.known_signal[row - 1], table.known_noise[row - 1]
    output = noise_schedule.output_at(Level(float(s), float(n)))
    of_x, of_output = table.predict_x[row], table.predict_output[row]
    a, b = of_x * s + of_output * output[0], of_x * n + of_output * output[1]
    determinant = b * s - n * a
    if abs(determinant) < 1e-6:
        return None
    return (float(b) * x - float(n) * prediction) / float(determinant)


@dataclass(frozen=True, eq=False)
class LinearPreview:
    """Colours as mixtures of the channels of scaled latents: (3, C) and (3,), in [0, 1]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    @torch.inference_mode()
    def fitted(cls, first_stage: FirstStage) -> LinearPreview:
        """Fit the map by least squares to decoded images of random latents, smooth and rough."""
        config, like = first_stage.config, next(first_stage.parameters())
        side, channels = _FIT_SIDE, config.latent_channels
        z = _octaves(channels, (side // 8, side // 4, side // 2, side))
        decoded = first_stage.decode(first_stage.unscaled(z).to(like)).float().cpu()
        colours = F.avg_pool2d((decoded[:, :RGB] / 2 + 0.5).clamp(0, 1), config.factor)
        inputs = torch.cat([z[0].flatten(1).T, torch.ones(side * side, 1)], dim=1)
        solution = torch.linalg.lstsq(inputs, colours[0].flatten(1).T).solution  # (C + 1, 3)
        return cls(solution[:-1].T.to(like.device), solution[-1].to(like.device))

    def __call__(self, latents: Tensor) -> Tensor:
        """Map scaled latents (C, h, w) to colours (3, h, w) in [0, 1]."""
        mixed = torch.einsum("kc,chw->khw", self.weight.to(latents), latents)
        return (mixed + self.bias.to(latents)[:, None, None]).clamp(0, 1)


def _octaves(channels: int, sides: Sequence[int]) -> Tensor:
    """Return latents (1, C, h, w) of unit variance with slow and fast variation, as in images."""
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(1, channels, side, side, generator=generator) for side in sides]
    z = sum((F.interpolate(n, size=sides[-1], mode="bicubic") for n in noise), torch.zeros(1))
    return z / z.std()


@torch.inference_mode()
def decode_preview(tiny: FirstStage, latents: Tensor) -> Tensor:
    """Decode scaled latents (C, h, w) by a tiny autoencoder to (H, W, 3) uint8 on the CPU."""
    side = MAX_SIDE // tiny.config.factor
    z = tiny.unscaled(_shrink(latents, side)[None])
    return to_bytes(tiny.decode(z.to(tiny.dtype)).float())[0].cpu()


@torch.inference_mode()
def project_preview(linear: LinearPreview, latents: Tensor) -> Tensor:
    """Map scaled latents (C, h, w) by the linear map to (h, w, 3) uint8 on the CPU."""
    colours = linear(_shrink(latents, MAX_SIDE))
    return to_bytes(2 * colours[None] - 1)[0].cpu()


def _shrink(latents: Tensor, side: int) -> Tensor:
    """Return `latents`, resized if one of their sides is longer than `side`."""
    height, width = latents.shape[-2:]
    if max(height, width) <= side:
        return latents
    share = side / max(height, width)
    size = max(1, round(share * height)), max(1, round(share * width))
    return F.interpolate(latents[None], size=size, mode="bilinear", antialias=True)[0]

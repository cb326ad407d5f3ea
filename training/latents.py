"""Latents of the training images, computed once for the diffusion stage."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from models.autoencoders.autoencoder_kl import AutoencoderKL
from training.grids import from_pixels


@dataclass(frozen=True)
class Latents:
    """Posterior mean and standard deviation of every image, each (N, C, h, w), unscaled.

    `scale` is the scaling factor, where it is given and not to be measured.
    """

    mean: Tensor
    std: Tensor
    scale: float | None = None

    @classmethod
    @torch.no_grad()
    def encode(
        cls, autoencoder: AutoencoderKL, pixels: npt.NDArray[np.uint8], batch_size: int = 64
    ) -> Self:
        """Encode pixels (N, S, S, 3) uint8 with a trained autoencoder."""
        means, stds = [], []
        device = next(autoencoder.parameters()).device
        for start in tqdm(range(0, len(pixels), batch_size), desc="encoding", unit="batch"):
            images = from_pixels(pixels[start : start + batch_size]).to(device)
            posterior = autoencoder.encode(images)
            means.append(posterior.mean.cpu())
            stds.append((0.5 * posterior.logvar).exp().cpu())
        return cls(torch.cat(means), torch.cat(stds))

    @cached_property
    def scaling_factor(self) -> float:
        """The factor that scales latents to unit variance (Rombach et al. 2022, appendix G).

        It is cached, because it takes a quarter of a second over all latents and every batch uses
        it.
        """
        if self.scale is not None:
            return self.scale
        variance = self.mean.double().var() + self.std.double().square().mean()
        return float(variance.rsqrt())

    def sample(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Return scaled samples (B, C, h, w) of the posteriors at indices `chosen` (B,)."""
        mean = self.mean[chosen]
        noise = torch.randn(mean.shape, generator=generator)
        return (mean + self.std[chosen] * noise) * self.scaling_factor

    def save(self, path: Path) -> None:
        torch.save({"mean": self.mean, "std": self.std}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(**torch.load(path, weights_only=True))

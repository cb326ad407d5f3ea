"""First stages: encode images to latents and decode them (Rombach et al. 2022, section 3.1).

Latents here are unscaled: `scaled` gives them unit variance, for the pipeline.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from models.autoencoders.first_stage_config import FirstStageConfig


class Posterior(Protocol):
    """Distribution of an image's latents, (B, C, h, w)."""

    def mode(self) -> Tensor: ...

    def sample(self, noise: Tensor) -> Tensor:
        """Return a sample, determined by unit `noise` of the latents' shape."""


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian over latents: mean and log-variance, each (B, C, h, w)."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> Gaussian:
        """Split (B, 2·C, h, w), with the log-variance clamped as in the published code."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """Return mean + std · noise."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Tensor:
        """Return the KL divergence to the unit Gaussian, summed over each sample: (B,)."""
        terms = self.mean.square() + self.logvar.exp() - 1 - self.logvar
        return 0.5 * terms.flatten(1).sum(1)


@dataclass(frozen=True)
class Point:
    """Deterministic latents (B, C, h, w)."""

    latents: Tensor

    def mode(self) -> Tensor:
        return self.latents

    def sample(self, noise: Tensor) -> Tensor:
        return self.latents


class FirstStage(nn.Module):
    """An encoder and a decoder.

    `moments` and `decode` are functions of plain tensors, which executors can run; `posterior`
    interprets the result of `moments`.
    """

    config: FirstStageConfig

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def scaled(self, z: Tensor) -> Tensor:
        """Return latents (…, C, h, w) of about unit variance, as the UNet takes them."""
        if self.config.statistics is None:
            return z * self.config.scaling_factor
        mean, std = self._statistics(z)
        return (z - mean) * self.config.scaling_factor / std

    def unscaled(self, latents: Tensor) -> Tensor:
        """Return the latents (…, C, h, w) whose `scaled` ones are given."""
        if self.config.statistics is None:
            return latents / self.config.scaling_factor
        mean, std = self._statistics(latents)
        return latents * std / self.config.scaling_factor + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the deviation of each channel, (C, 1, 1), for latents `like`."""
        assert self.config.statistics is not None
        mean, std = (like.new_tensor(values) for values in self.config.statistics)
        return mean[:, None, None], std[:, None, None]

    def encode(self, image: Tensor) -> Posterior:
        """Encode image (B, C, H, W) in [-1, 1], sides multiples of `config.factor`."""
        return self.posterior(self.moments(image))

    @abstractmethod
    def moments(self, image: Tensor) -> Tensor:
        """Encode image (B, C, H, W) in [-1, 1] to the parameters of its latents, (B, …, h, w)."""

    @abstractmethod
    def posterior(self, moments: Tensor) -> Posterior:
        """Return the distribution of the latents with these `moments`."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Decode unscaled latents (B, C, h, w) to image (B, C', H, W) in about [-1, 1]."""

    def conditioned(self, z: Tensor, image: Tensor, mask: Tensor) -> Tensor | None:
        """Return `z` as `decode` takes it for inpainting; None if that reads the latents alone.

        image (3, H, W) in [-1, 1], and mask (1, H, W), 1 where it is inpainted and else 0.
        """
        return None

"""Training of an enlarged decoder: the added details come from a patch discriminator.

The latents hold images of half the side. Between two equally likely edges the mean absolute error
prefers the blurred one, the discriminator a sharp one (Rombach et al. 2022, appendix G.1).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.autoencoders.autoencoder_kl import AutoencoderKL
from training.checkpointing import Stateful
from training.decoder_stage import DecoderStage
from training.device import autocast, channels_last
from training.discriminator import (
    adaptive_weight,
    discriminator_loss,
    generator_loss,
    patch_discriminator,
)
from training.latents import Latents
from training.runner import learning_rate, set_learning_rate

LEARNING_RATE = 5e-4
ADVERSARIAL_WEIGHT = 0.2
# Steps before the discriminator judges. Until then it and the added level learn the basics: with
# 150 steps and a weight of 0.3 colours drifted towards green.
ADVERSARIAL_START = 1500
# Largest deviation of the noise that is added to scaled latents: generated ones are never exact.
LATENT_NOISE = 0.15


class SharpDecoderStage(DecoderStage):
    """Training of an enlarged decoder on latents of half the size, with a discriminator."""

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        latents: Latents,
        pixels: npt.NDArray[np.uint8],
        weights: Tensor,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        super().__init__(autoencoder, latents, pixels, weights, batch_size, seed)
        self.discriminator = patch_discriminator().to(self.device)
        channels_last(self.discriminator)
        self.judge_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), lr=3e-4, betas=(0.5, 0.9), fused=True
        )

    def parts(self) -> Mapping[str, Stateful]:
        return {
            **super().parts(),
            "discriminator": self.discriminator,
            "judge_optimizer": self.judge_optimizer,
        }

    def batch(self) -> tuple[Tensor, Tensor]:
        images, z = super().batch()
        deviation = torch.rand(len(z), 1, 1, 1, generator=self.generator)
        deviation = deviation * LATENT_NOISE / self.latents.scaling_factor
        noise = deviation * torch.randn(z.shape, generator=self.generator)
        return images, z + noise.to(self.device)

    def step(self, step: int, total_steps: int) -> dict[str, float]:
        set_learning_rate(self.optimizer, learning_rate(step, total_steps, LEARNING_RATE, 50))
        images, z = self.batch()
        decoded = self.decode(z)
        loss, losses = self.reconstruction(decoded, images)
        if step >= ADVERSARIAL_START:
            loss = loss + self.adversarial(loss, decoded)
        self.update(loss)
        losses["judge"] = self.train_discriminator(images, decoded.detach())
        return losses

    def adversarial(self, reconstruction: Tensor, decoded: Tensor) -> Tensor:
        """Return the weighted adversarial loss of the decoded images."""
        with autocast(self.device):
            logits = self.discriminator(decoded)
        loss = generator_loss(logits.float())
        weight = adaptive_weight(reconstruction, loss, self.autoencoder.decoder.conv_out.weight)
        return ADVERSARIAL_WEIGHT * weight * loss

    def train_discriminator(self, images: Tensor, decoded: Tensor) -> float:
        """Train the discriminator for one step and return its loss."""
        with autocast(self.device):
            logits = self.discriminator(torch.cat([images, decoded])).float()
        loss = discriminator_loss(*logits.chunk(2))
        self.judge_optimizer.zero_grad()
        loss.backward()
        self.judge_optimizer.step()
        return float(loss.detach())

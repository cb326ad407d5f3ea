"""Stage one: the autoencoder with KL regularisation and a patch discriminator.

Rombach et al. (2022), section 3.1 and appendix G, with one change: a loss on edges at several
scales replaces the perceptual loss, which needs a network trained on photographs of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from models.autoencoders.autoencoder_kl import AutoencoderKL
from training.checkpointing import Stateful
from training.device import autocast, channels_last, training_device
from training.discriminator import (
    adaptive_weight,
    discriminator_loss,
    generator_loss,
    patch_discriminator,
)
from training.ema import EMA
from training.grids import from_pixels, grid, to_pixels
from training.presets import Preset
from training.runner import learning_rate, set_learning_rate

LEARNING_RATE = 1e-3
# Per latent element. Large enough that neighbouring latents decode to similar images, which the
# second stage needs; small enough that the images stay sharp.
KL_WEIGHT = 3e-4
EDGE_WEIGHT = 1.0
ADVERSARIAL_WEIGHT = 0.2
# Share of the steps after which the discriminator is used, when reconstructions are good enough.
ADVERSARIAL_START = 0.5

COLUMNS = 16  # of a grid


def edge_loss(x: Tensor, y: Tensor, scales: int = 3) -> Tensor:
    """Return the mean absolute difference of horizontal and vertical edges at halved resolutions.

    It replaces a perceptual loss: L1 alone accepts blurred outlines, this loss does not.
    """
    difference = x - y
    total = difference.new_zeros(())
    for _ in range(scales):
        total = total + difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        difference = F.avg_pool2d(difference, 2)
    return total / (2 * scales)


class AutoencoderStage:
    """Training of the autoencoder on pixels (N, S, S, 3) uint8, half of them mirrored."""

    def __init__(
        self, preset: Preset, pixels: npt.NDArray[np.uint8], batch_size: int, seed: int = 0
    ) -> None:
        torch.manual_seed(seed)
        self.pixels, self.batch_size = pixels, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.device = training_device()
        self.autoencoder = AutoencoderKL(preset.autoencoder).to(self.device)
        self.discriminator = patch_discriminator().to(self.device)
        for network in (self.autoencoder, self.discriminator):
            channels_last(network)
        self.ema = EMA([self.autoencoder], decay=0.999)
        self.optimizer = torch.optim.AdamW(
            self.autoencoder.parameters(), betas=(0.9, 0.99), weight_decay=1e-4, fused=True
        )
        self.judge_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.9), fused=True
        )

    def parts(self) -> Mapping[str, Stateful]:
        return {
            "autoencoder": self.autoencoder,
            "discriminator": self.discriminator,
            "ema": self.ema,
            "optimizer": self.optimizer,
            "judge_optimizer": self.judge_optimizer,
        }

    def batch(self) -> Tensor:
        """Return random images (B, 3, S, S) in [-1, 1]."""
        chosen = torch.randint(len(self.pixels), (self.batch_size,), generator=self.generator)
        images = from_pixels(self.pixels[chosen.numpy()])
        mirrored = torch.rand(self.batch_size, 1, 1, 1, generator=self.generator) < 0.5
        return torch.where(mirrored, images.flip(-1), images).to(self.device)

    def step(self, step: int, total_steps: int) -> dict[str, float]:
        images = self.batch()
        set_learning_rate(self.optimizer, learning_rate(step, total_steps, LEARNING_RATE))
        with autocast(self.device):
            posterior = self.autoencoder.encode(images)
        side = posterior.mean.shape
        noise = torch.randn(side, generator=self.generator).to(self.device)
        with autocast(self.device):
            decoded = self.autoencoder.decode(posterior.sample(noise)).float()
        l1 = F.l1_loss(decoded, images)
        reconstruction = l1 + EDGE_WEIGHT * edge_loss(decoded, images)
        kl = posterior.kl().float().mean() / side[1:].numel()
        loss = reconstruction + KL_WEIGHT * kl
        losses = {"l1": l1.item(), "kl": kl.item()}
        judging = step >= ADVERSARIAL_START * total_steps
        if judging:
            loss = loss + self.adversarial(reconstruction, decoded)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.autoencoder.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update()
        if judging:
            losses["judge"] = self.train_discriminator(images, decoded.detach())
        return losses

    def adversarial(self, reconstruction: Tensor, decoded: Tensor) -> Tensor:
        """Return the weighted adversarial loss of the decoded images, which trains the decoder."""
        with autocast(self.device):
            logits = self.discriminator(decoded)
        adversarial_loss = generator_loss(logits.float())
        weight = adaptive_weight(
            reconstruction, adversarial_loss, self.autoencoder.decoder.conv_out.weight
        )
        return ADVERSARIAL_WEIGHT * weight * adversarial_loss

    def train_discriminator(self, images: Tensor, decoded: Tensor) -> float:
        """Train the discriminator for one step and return its loss."""
        with autocast(self.device):
            logits = self.discriminator(torch.cat([images, decoded])).float()
        loss = discriminator_loss(*logits.chunk(2))
        self.judge_optimizer.zero_grad()
        loss.backward()
        self.judge_optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def grid(self) -> Image.Image:
        """Return rows of images, each above its reconstructions by the averaged weights."""
        pixels = self.pixels[:: max(1, len(self.pixels) // 32)][:32]
        self.ema.swap()
        images = from_pixels(pixels).to(self.device)
        decoded = self.autoencoder.decode(self.autoencoder.encode(images).mode())
        self.ema.swap()
        pairs = zip(in_rows(pixels), in_rows(to_pixels(decoded)), strict=True)
        return grid(np.concatenate([row for pair in pairs for row in pair]), COLUMNS)


def in_rows(pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Split images (N, H, W, 3) into rows of `COLUMNS`; the last row is padded with white."""
    missing = -len(pixels) % COLUMNS
    padded = np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=255)
    return [padded[start : start + COLUMNS] for start in range(0, len(padded), COLUMNS)]


def trained_autoencoder(preset: Preset, checkpoint: Path) -> AutoencoderKL:
    """Load the averaged autoencoder of a checkpoint. Raises FileNotFoundError before stage one."""
    autoencoder = AutoencoderKL(preset.autoencoder)
    ema = EMA([autoencoder], decay=0.0)
    ema.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["ema"])
    ema.swap()
    channels_last(autoencoder)
    return autoencoder.eval().requires_grad_(False)


def with_scaling_factor(autoencoder: AutoencoderKL, scaling_factor: float) -> AutoencoderKL:
    """Set the factor that scales latents to unit variance, and return the autoencoder."""
    autoencoder.config = replace(autoencoder.config, scaling_factor=scaling_factor)
    return autoencoder

"""Training of an enlarged encoder: it learns to give the latents of the one it replaces.

The diffusion model and the decoder then need no change, and img2img starts from pixels of the new
size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models.autoencoders.autoencoder_kl import AutoencoderKL
from training.autoencoder_stage import COLUMNS, in_rows
from training.checkpointing import Stateful
from training.device import autocast, training_device
from training.ema import EMA
from training.grids import from_pixels, grid, to_pixels
from training.latents import Latents
from training.runner import learning_rate, set_learning_rate

LEARNING_RATE = 1e-3
# The deviations only scale the noise of samples; the means are the latents.
DEVIATION_WEIGHT = 0.1


class EncoderStage:
    """Training of the encoder on pixels (N, S, S, 3) uint8 and their latents."""

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        latents: Latents,
        pixels: npt.NDArray[np.uint8],
        batch_size: int,
        seed: int = 0,
    ) -> None:
        self.device = training_device()
        self.autoencoder = autoencoder.to(self.device)
        self.latents, self.pixels, self.batch_size = latents, pixels, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.encoder = nn.ModuleList([autoencoder.encoder, autoencoder.quant_conv])
        self.encoder.requires_grad_(True)
        self.ema = EMA([self.encoder], decay=0.995)
        self.optimizer = torch.optim.AdamW(
            self.encoder.parameters(), betas=(0.9, 0.99), weight_decay=1e-4, fused=True
        )

    def parts(self) -> Mapping[str, Stateful]:
        return {"encoder": self.encoder, "ema": self.ema, "optimizer": self.optimizer}

    def loss(self, chosen: Tensor) -> Tensor:
        """Return the mean squared error of scaled means and of logarithmic deviations."""
        images = from_pixels(self.pixels[chosen.numpy()]).to(self.device)
        with autocast(self.device):
            moments = self.autoencoder.moments(images).float()
        mean, logvar = moments.chunk(2, dim=1)
        expected, deviation = (
            t[chosen].to(self.device) for t in (self.latents.mean, self.latents.std)
        )
        error = (mean - expected) * self.latents.scaling_factor
        deviations = F.mse_loss(0.5 * logvar, deviation.log())
        return error.square().mean() + DEVIATION_WEIGHT * deviations

    def step(self, step: int, total_steps: int) -> dict[str, float]:
        set_learning_rate(self.optimizer, learning_rate(step, total_steps, LEARNING_RATE, 50))
        loss = self.loss(
            torch.randint(len(self.pixels), (self.batch_size,), generator=self.generator)
        )
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update()
        return {"loss": loss.item()}

    @torch.no_grad()
    def grid(self) -> Image.Image:
        """Return rows of images, each above its reconstructions by the averaged encoder."""
        pixels = self.pixels[:: max(1, len(self.pixels) // 32)][:32]
        self.ema.swap()
        images = from_pixels(pixels).to(self.device)
        decoded = self.autoencoder.decode(self.autoencoder.encode(images).mode())
        self.ema.swap()
        pairs = zip(in_rows(pixels), in_rows(to_pixels(decoded)), strict=True)
        return grid(np.concatenate([row for pair in pairs for row in pair]), COLUMNS)

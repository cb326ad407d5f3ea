"""Last stage: further training of the decoder alone.

The encoder is frozen, so the latents stay those of the diffusion stage; the published "ft-MSE"
decoders of Stable Diffusion were made this way. The loss includes colours compared at latent
resolution, because a short first stage leaves rare hues muted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models.autoencoders.autoencoder_kl import AutoencoderKL
from training.autoencoder_stage import COLUMNS, edge_loss, in_rows
from training.checkpointing import Stateful
from training.device import autocast, training_device
from training.ema import EMA
from training.grids import from_pixels, grid, to_pixels
from training.latents import Latents
from training.runner import learning_rate, set_learning_rate

LEARNING_RATE = 6e-4
COLOUR_WEIGHT = 3.0


def muted_hues(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """Return sampling weights of images (N, S, S, 3), higher with more green or magenta.

    The short first stage loses this axis of colour: most images vary from blue to orange, and the
    other direction is learned last.
    """
    red, green, blue = np.moveaxis(pixels[:, ::2, ::2].astype(np.float32) / 255, -1, 0)
    return torch.from_numpy(0.02 + np.abs(green - (red + blue) / 2).mean((1, 2)))


def colour_loss(x: Tensor, y: Tensor, factor: int) -> Tensor:
    """Return the mean absolute difference of colours, averaged over squares of `factor` pixels."""
    return F.avg_pool2d(x - y, factor).abs().mean()


class DecoderStage:
    """Training of the decoder on latents and pixels (N, S, S, 3) uint8, with `weights` (N,)."""

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        latents: Latents,
        pixels: npt.NDArray[np.uint8],
        weights: Tensor,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        self.device = training_device()
        self.autoencoder = autoencoder.to(self.device)
        self.latents, self.pixels = latents, pixels
        self.weights, self.batch_size = weights, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.decoder = nn.ModuleList([autoencoder.post_quant_conv, autoencoder.decoder])
        self.decoder.requires_grad_(True)
        self.ema = EMA([self.decoder], decay=0.995)
        self.optimizer = torch.optim.AdamW(
            self.decoder.parameters(), betas=(0.9, 0.99), weight_decay=1e-4, fused=True
        )

    def parts(self) -> Mapping[str, Stateful]:
        return {"decoder": self.decoder, "ema": self.ema, "optimizer": self.optimizer}

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return random images (B, 3, S, S) in [-1, 1], and unscaled samples of their latents."""
        chosen = torch.multinomial(self.weights, self.batch_size, True, generator=self.generator)
        images = from_pixels(self.pixels[chosen.numpy()])
        z = self.latents.sample(chosen, self.generator) / self.latents.scaling_factor
        return images.to(self.device), z.to(self.device)

    def decode(self, z: Tensor) -> Tensor:
        """Decode unscaled latents with the network that is trained, in bfloat16."""
        with autocast(self.device):
            return self.autoencoder.decode(z).float()

    def reconstruction(self, decoded: Tensor, images: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of decoded images, and its parts to log."""
        l1 = F.l1_loss(decoded, images)
        colour = colour_loss(decoded, images, self.autoencoder.config.factor)
        loss = l1 + edge_loss(decoded, images) + COLOUR_WEIGHT * colour
        return loss, {"l1": l1.item(), "colour": colour.item()}

    def update(self, loss: Tensor) -> None:
        """Take one step of the optimiser."""
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update()

    def step(self, step: int, total_steps: int) -> dict[str, float]:
        set_learning_rate(self.optimizer, learning_rate(step, total_steps, LEARNING_RATE, 50))
        images, z = self.batch()
        loss, losses = self.reconstruction(self.decode(z), images)
        self.update(loss)
        return losses

    @torch.no_grad()
    def grid(self) -> Image.Image:
        """Return rows of images, each above the averaged decoder's output for their latents."""
        chosen = torch.arange(0, len(self.pixels), max(1, len(self.pixels) // 32))[:32]
        pixels = self.pixels[chosen.numpy()]
        self.ema.swap()
        decoded = self.autoencoder.decode(self.latents.mean[chosen].to(self.device))
        self.ema.swap()
        pairs = zip(in_rows(pixels), in_rows(to_pixels(decoded)), strict=True)
        return grid(np.concatenate([row for pair in pairs for row in pair]), COLUMNS)


def refine(autoencoder: AutoencoderKL, checkpoint: Path) -> None:
    """Load the averaged decoder of a checkpoint into `autoencoder`, in place."""
    decoder = nn.ModuleList([autoencoder.post_quant_conv, autoencoder.decoder])
    ema = EMA([decoder], decay=0.0)
    ema.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["ema"])
    ema.swap()

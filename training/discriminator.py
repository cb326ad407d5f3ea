"""The patch discriminator of stage one (Isola et al. 2017; Rombach et al. 2022, G.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def patch_discriminator(channels: int = 32) -> nn.Sequential:
    """Return a network from images (B, 3, H, W) in [-1, 1] to logits of patches (B, 1, H/8, W/8).

    It has group normalisation where the paper has batch normalisation, so that a logit depends on
    its own image alone, and real and fake batches need not be mixed.
    """
    return nn.Sequential(
        nn.Conv2d(3, channels, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(channels, 2 * channels, 4, 2, 1),
        nn.GroupNorm(4, 2 * channels),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * channels, 4 * channels, 4, 2, 1),
        nn.GroupNorm(4, 4 * channels),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4 * channels, 1, 3, 1, 1),
    )


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the hinge loss over the patch logits of real and reconstructed images."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """Return the decoder's loss for patches that the discriminator recognises."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Return the weight that gives both losses equal gradients in the last layer.

    Esser et al. (2021), eq. 7. It is bounded, because the adversarial gradient vanishes where the
    discriminator is sure.
    """
    (gradient,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (adversarial_gradient,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    return (gradient.norm() / (adversarial_gradient.norm() + 1e-4)).clamp(0, 100).detach()

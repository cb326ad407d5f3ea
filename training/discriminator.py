"""The patch discriminator of stage one (Isola et al. 2017; Rombach et al. 2022, G.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def patch_discriminator(channels: int = 32) -> nn.Sequential:
    """Image (B, 3, H, W) in [-1, 1] -> one logit per overlapping patch (B, 1, H/8, W/8).

    Group normalisation where the paper has batch normalisation, so that a logit depends on its
    own image alone and real and fake batches need not be mixed.
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
    """Hinge loss over the patch logits of real and reconstructed images."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """What the decoder pays for patches that the discriminator recognises."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Weight at which both losses pull equally on the last layer (Esser et al. 2021, eq. 7).

    Bounded, because the adversarial gradient vanishes where the discriminator is sure.
    """
    (pull,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (push,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    return (pull.norm() / (push.norm() + 1e-4)).clamp(0, 100).detach()

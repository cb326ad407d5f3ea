"""Figures that compare generated images with icons."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def top_shares(logits: Tensor, classes: Tensor, counts: tuple[int, ...] = (1, 5)) -> list[float]:
    """Return the share of images whose class is among the highest 1, and 5, of logits (N, K)."""
    best = logits.topk(min(max(counts), logits.shape[1]), dim=1).indices
    ranked = best == classes[:, None]
    return [ranked[:, :count].any(1).double().mean().item() for count in counts]


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Return the Fréchet distance of Gaussians fitted to features (N, D) and (M, D).

    Heusel et al. (2017), eq. 6: |µa - µb|² + tr(Σa + Σb - 2 √(Σa Σb)).
    """
    a, b = a.double(), b.double()
    (cov_a, cov_b), shift = (x.T.cov() for x in (a, b)), a.mean(0) - b.mean(0)
    # √(Σa Σb) has the trace of √(√Σa Σb √Σa), which is symmetric.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float(shift @ shift + cov_a.trace() + cov_b.trace() - 2 * cross)


def gradient_energy(pixels: npt.NDArray[np.uint8]) -> float:
    """Return the mean squared difference of neighbours in pixels (N, H, W, 3), in [0, 255]²."""
    total = 0.0
    for image in pixels:
        values = image.astype(np.float32)
        total += float(np.square(np.diff(values, axis=0)).mean())
        total += float(np.square(np.diff(values, axis=1)).mean())
    return total / len(pixels)

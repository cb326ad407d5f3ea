"""The mel scale: conversion of frequencies to perceptual bands and back."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.sound.scale import SoundScale

FloatArray = NDArray[np.float64]


def mel(frequency: float | FloatArray) -> FloatArray:
    """Convert a frequency in Hz to mel, by the HTK book's formula (Young et al. 2006, eq. 5.13)."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(frequency) / 700.0))


def hertz(mels: FloatArray) -> FloatArray:
    return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)


def filters(bands: int, scale: SoundScale) -> FloatArray:
    """Return (bins, bands): the weight of each frequency in a band.

    Triangles of height 1, evenly spaced on the mel scale, each from its lower neighbour's middle to
    its upper neighbour's.
    """
    ends = np.linspace(mel(scale.min_frequency), mel(scale.max_frequency), bands + 2)
    left, middle, right = (hertz(ends)[i : bands + i] for i in range(3))
    frequency = np.linspace(0.0, scale.sample_rate / 2, scale.bins)[:, None]
    rising = (frequency - left) / (middle - left)
    falling = (right - frequency) / (right - middle)
    return np.clip(np.minimum(rising, falling), 0.0, None)


def inverse(band_amplitudes: FloatArray, scale: SoundScale) -> FloatArray:
    """Convert (channels, bands, columns) to amplitudes (channels, bins, columns).

    Of all amplitudes with the same bands those of least energy; none are below 0.
    """
    return np.maximum(_pseudo_inverse(band_amplitudes.shape[1], scale) @ band_amplitudes, 0.0)


@lru_cache(maxsize=1)  # 36 MB for the usual 512 bands
def _pseudo_inverse(bands: int, scale: SoundScale) -> FloatArray:
    """Return (bins, bands): B (B^T B)^+ for the filters B, which have many more bins than bands."""
    weights = filters(bands, scale)
    inverted: FloatArray = weights @ np.linalg.pinv(weights.T @ weights, hermitian=True)
    return inverted

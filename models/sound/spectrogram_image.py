"""Amplitudes of a spectrogram image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.sound.scale import RIFFUSION, SoundScale

Image = NDArray[np.uint8]
Amplitudes = NDArray[np.float64]  # (channels, bands, columns), the lowest band first


def amplitudes(image: Image, stereo: bool, scale: SoundScale = RIFFUSION) -> Amplitudes:
    """Convert an image (H, W, 3) to amplitudes (channels, H, W).

    One channel from red, or with `stereo` two: left from green and right from blue.
    """
    planes = image[::-1, :, 1:] if stereo else image[::-1, :, :1]
    loudness = (255.0 - planes.astype(np.float64)) / 255.0
    return np.moveaxis(scale.max_value * loudness ** (1.0 / scale.power), -1, 0)

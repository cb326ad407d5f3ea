"""The amplitudes that a picture shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.sound.scale import RIFFUSION, SoundScale

Picture = NDArray[np.uint8]
Amplitudes = NDArray[np.float64]  # (channels, bands, columns), the lowest band first


def amplitudes(picture: Picture, stereo: bool, scale: SoundScale = RIFFUSION) -> Amplitudes:
    """(H, W, 3) -> one channel, which red shows, or two: left in green and right in blue."""
    planes = picture[::-1, :, 1:] if stereo else picture[::-1, :, :1]
    loudness = (255.0 - planes.astype(np.float64)) / 255.0
    return np.moveaxis(scale.max_value * loudness ** (1.0 / scale.power), -1, 0)

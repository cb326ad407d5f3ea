"""Sound from a spectrogram image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.sound import mel
from models.sound.phases import griffin_lim
from models.sound.scale import RIFFUSION, SoundScale
from models.sound.spectrogram_image import Image, amplitudes

Sound = NDArray[np.float32]  # (samples, channels) in [-1, 1]

# Columns of the narrowest image whose sound is longer than half a padded window.
MIN_WIDTH = RIFFUSION.n_fft // 2 // RIFFUSION.hop + 2

_LOUDNESS_DB = -12.0  # on average, before peaks are clipped and scaled to _PEAK_DB
_PEAK_DB = -0.1


def synthesise(
    image: Image, seed: int, *, stereo: bool = False, scale: SoundScale = RIFFUSION
) -> Sound:
    """Convert an image (H, W, 3) uint8 to hop * (W - 1) samples.

    The same image and seed give the same sound. Raises ValueError for an image narrower than
    MIN_WIDTH.
    """
    if image.shape[1] < MIN_WIDTH:
        raise ValueError(f"the image is {image.shape[1]} wide, narrower than {MIN_WIDTH}")
    spectrum_amplitudes = mel.inverse(amplitudes(image, stereo, scale), scale)
    generator = torch.Generator().manual_seed(seed)
    loudest = max(spectrum_amplitudes.max(), 1e-12)  # a completely white image is silent
    spectrum = torch.from_numpy((spectrum_amplitudes / loudest).astype(np.float32))
    return normalise(griffin_lim(spectrum, generator, scale).numpy().T)


def normalise(sound: Sound) -> Sound:
    """Scale sound to the loudness of riffusion's clips.

    It is scaled to an average, clipped at 1, and scaled to a peak.
    """
    average = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
    if not average:
        return sound
    louder = np.clip(sound * (10 ** (_LOUDNESS_DB / 20) / average), -1.0, 1.0)
    scaled: Sound = (louder * (10 ** (_PEAK_DB / 20) / np.abs(louder).max())).astype(np.float32)
    return scaled

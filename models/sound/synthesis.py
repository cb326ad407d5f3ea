"""A picture, read aloud."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.sound import mel
from models.sound.phases import griffin_lim
from models.sound.scale import RIFFUSION, SoundScale
from models.sound.spectrogram_image import Picture, amplitudes

Sound = NDArray[np.float32]  # (samples, channels) in [-1, 1]

# Columns of the narrowest picture whose sound is longer than half a padded window.
NARROWEST = RIFFUSION.n_fft // 2 // RIFFUSION.hop + 2

_LOUDNESS_DB = -12.0  # on average, before peaks are cut off and brought to
_PEAK_DB = -0.1


def sound_of(
    picture: Picture, seed: int, *, stereo: bool = False, scale: SoundScale = RIFFUSION
) -> Sound:
    """(H, W, 3) uint8 -> hop * (W - 1) samples. The same picture and seed sound the same.

    Raises ValueError for a picture that is narrower than NARROWEST.
    """
    if picture.shape[1] < NARROWEST:
        raise ValueError(f"the picture is {picture.shape[1]} wide, narrower than {NARROWEST}")
    heard = mel.inverse(amplitudes(picture, stereo, scale), scale)
    generator = torch.Generator().manual_seed(seed)
    loudest = max(heard.max(), 1e-12)  # a wholly white picture is silent
    spectrum = torch.from_numpy((heard / loudest).astype(np.float32))
    return levelled(griffin_lim(spectrum, generator, scale).numpy().T)


def levelled(sound: Sound) -> Sound:
    """As loud as riffusion's own clips: brought to an average, cut off at 1, then to a peak."""
    average = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
    if not average:
        return sound
    louder = np.clip(sound * (10 ** (_LOUDNESS_DB / 20) / average), -1.0, 1.0)
    levelled: Sound = (louder * (10 ** (_PEAK_DB / 20) / np.abs(louder).max())).astype(np.float32)
    return levelled

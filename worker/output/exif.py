"""Exif tags of a spectrogram image, for programs that convert it to sound later."""

from __future__ import annotations

from PIL import Image

from models.sound import RIFFUSION

# The tags of riffusion's own images.
_TAGS: dict[int, int | float] = {
    11000: RIFFUSION.sample_rate,
    11010: RIFFUSION.step_ms,
    11020: RIFFUSION.window_ms,
    11030: RIFFUSION.padded_ms,
    11050: RIFFUSION.min_frequency,
    11060: RIFFUSION.max_frequency,
    11070: RIFFUSION.power,
    11080: RIFFUSION.max_value,
}
_STEREO, _BANDS = 11005, 11040


def spectrogram_exif(height: int, stereo: bool) -> Image.Exif:
    """Return the tags of a spectrogram image of `height` rows, one per band."""
    exif = Image.Exif()
    exif.update({**_TAGS, _STEREO: int(stereo), _BANDS: height})
    return exif

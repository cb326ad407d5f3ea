"""What a picture of a spectrogram says of itself, for programs that read it aloud later."""

from __future__ import annotations

from PIL import Image

from models.sound import RIFFUSION

# Tags of riffusion's own pictures.
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
    """Of a picture with as many bands as rows."""
    exif = Image.Exif()
    exif.update({**_TAGS, _STEREO: int(stereo), _BANDS: height})
    return exif

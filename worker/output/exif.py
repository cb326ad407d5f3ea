"""Exif blocks of image files: the recipe of the image, and the tags of a spectrogram."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from PIL import ExifTags, Image
from PIL.TiffTags import BYTE, UNDEFINED

from models.sound import RIFFUSION
from protocol.recipes.exif_recipe import MAKER_NOTE, USER_COMMENT
from protocol.request.request import GenerationRequest

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
MAX_JPEG_EXIF = 65_533  # bytes that fit into a JPEG segment


def spectrogram_exif(request: GenerationRequest, height: int) -> Image.Exif | None:
    """Return the tags of a spectrogram image of `height` rows, one per band; None for others."""
    if request.audio_format is None:
        return None
    exif = Image.Exif()
    exif.update({**_TAGS, _STEREO: int(request.audio_stereo), _BANDS: height})
    return exif


def exif_block(
    exif: Image.Exif | None, texts: Mapping[str, bytes], max_bytes: int | None
) -> bytes | None:
    """Return a block with the tags and the texts of a recipe, as many as fit into `max_bytes`.

    Our own text is left out first: it is the longer one. None if there is nothing to write.
    """
    for names in ((USER_COMMENT, MAKER_NOTE), (USER_COMMENT,)):
        block = _block(exif, {name: texts[name] for name in names if name in texts})
        if block is None or max_bytes is None or len(block) <= max_bytes:
            return block
    return _block(exif, {})


def _block(exif: Image.Exif | None, texts: Mapping[str, bytes]) -> bytes | None:
    if exif is None and not texts:
        return None
    whole = Image.Exif()
    whole.endian = ">"  # as piexif writes it, whose texts are in this order, too
    whole.update(exif or {})
    tags = {ExifTags.Base[name].value: text for name, text in texts.items()}
    if tags:  # else there is no such directory, not an empty one
        whole.get_ifd(ExifTags.IFD.Exif).update(tags)
    block: bytes = whole.tobytes()
    for tag, text in tags.items():
        # Pillow writes bytes as numbers, but these tags are of the type undefined.
        entry, correct = (struct.pack(">HHL", tag, kind, len(text)) for kind in (BYTE, UNDEFINED))
        block = block.replace(entry, correct, 1)
    return block

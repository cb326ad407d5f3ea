"""Extra files of an image: its depth map, and its sound."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from models.sound import synthesise
from protocol.request.object_keys import Extra, ExtraFormat
from protocol.request.request import GenerationRequest
from worker.interfaces import RGB, Pixels
from worker.output.sound_file import encode_sound


class File(NamedTuple):
    """An extra file before it is stored."""

    kind: Extra
    format: ExtraFormat
    content: bytes


def extras(pixels: Pixels, request: GenerationRequest, seed: int) -> Iterator[File]:
    """Yield the extra files of an image generated from `seed`."""
    if pixels.shape[-1] > RGB:
        yield File(Extra.DEPTH, ExtraFormat.PNG, _depth(pixels))
    if request.audio_format is not None:
        sound = synthesise(pixels[..., :RGB], seed, stereo=request.audio_stereo)
        content = encode_sound(sound, request.audio_format)
        yield File(Extra.SOUND, ExtraFormat(request.audio_format.value), content)


def _depth(pixels: Pixels) -> bytes:
    """Encode the depth as a grey PNG of 16 bits."""
    high, low = pixels[..., RGB], pixels[..., RGB + 1]
    depth = high.astype(np.uint16) * 256 + low
    file = io.BytesIO()
    Image.fromarray(depth).save(file, "PNG")
    return file.getvalue()

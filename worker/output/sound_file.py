"""Encodes sound as files. The only module that uses libsndfile."""

from __future__ import annotations

import io

import soundfile

from models.sound import RIFFUSION
from models.sound.synthesis import Sound
from protocol.request.object_keys import AudioFormat

_SUBTYPES = {
    AudioFormat.WAV: "PCM_16",
    AudioFormat.FLAC: "PCM_16",
    AudioFormat.MP3: "MPEG_LAYER_III",
}


def encode_sound(sound: Sound, audio_format: AudioFormat) -> bytes:
    """Encode `sound` (samples, channels) in [-1, 1]: 16 bits, or MP3."""
    file = io.BytesIO()
    soundfile.write(
        file,
        sound,
        RIFFUSION.sample_rate,
        format=audio_format.value.upper(),
        subtype=_SUBTYPES[audio_format],
    )
    return file.getvalue()

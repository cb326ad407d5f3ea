"""Sounds, of models whose pictures are spectrograms."""

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import AudioFormat, Extra

__all__ = ["chosen_audio"]

# Pixels: a sound must be longer than the window through which its spectrum is seen.
NARROWEST = 22


def chosen_audio(
    audio_format: AudioFormat | None, card: ModelCard, width: int
) -> AudioFormat | None:
    """The format asked for. Raises `InvalidRequest` if there is no sound in such a picture."""
    if audio_format is None:
        return None
    if Extra.SOUND not in card.outputs:
        bound = f"absent: {card.name} gives {', '.join(card.outputs)}"
        raise InvalidRequest("audio_format", audio_format.value, bound, "not-for-this-model")
    if width < NARROWEST:
        raise InvalidRequest("width", width, f"at least {NARROWEST} for a sound", "no-sound")
    return audio_format

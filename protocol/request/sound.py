"""The audio format of a request, for models whose images are spectrograms."""

from protocol.errors import InvalidRequest
from protocol.request.generation_params import GenerationParams
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import AudioFormat, Extra

__all__ = ["checked_audio_format"]

# Pixels: a sound must be longer than the window of the Fourier transform.
MIN_WIDTH = 22


def checked_audio_format(
    params: GenerationParams, card: ModelCard, width: int
) -> AudioFormat | None:
    """Return the format. Raises `InvalidRequest` if the model or the width allows no sound."""
    if (audio_format := params.audio_format) is None:
        return None
    if Extra.SOUND not in card.outputs:
        bound = f"absent: {card.name} gives {', '.join(card.outputs)}"
        raise InvalidRequest("audio_format", audio_format.value, bound, "not-for-this-model")
    if width < MIN_WIDTH and params.width is None:
        bound = f"absent, or sent with a width of at least {MIN_WIDTH}"
        raise InvalidRequest("audio_format", audio_format.value, bound, "no-sound")
    if width < MIN_WIDTH:
        raise InvalidRequest("width", width, f"at least {MIN_WIDTH} for a sound", "no-sound")
    return audio_format

"""Types and bounds of the fields that parameters, requests and model cards share.

The bounds are those that no model can exceed. Each model's card has tighter ones, which
`resolve` checks.
"""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from protocol.record import Float, Int, Text
from protocol.request.object_keys import INPUT_KEY

# Seeds are below this, so that JSON readers that hold numbers as doubles keep each one exactly.
SEED_LIMIT = 2**53

MAX_STEPS = 1000
MAX_SIDE = 16384  # pixels
MAX_IMAGES = 64
MAX_GUIDANCE_SCALE = 100.0
MAX_IMAGE_GUIDANCE_SCALE = 20.0
MAX_PROMPT_LENGTH = 20_000  # characters
MAX_CLIP_SKIP = 12
MAX_NOISE_LEVEL = 1000
MAX_DEADLINE_S = 7 * 86400.0
MAX_CLASSES = 100_000
MAX_BOXES = 256
MAX_LORAS = 8
MAX_LORA_WEIGHT = 4.0  # of either sign
MAX_CONTROLS = 4
MAX_CONTROL_WEIGHT = 2.0
MAX_HIRES_SCALE = 8.0
MAX_SCALE = 16.0
MAX_UPSCALED_PIXELS = 8192 * 8192
MAX_MASK_PIXELS = 64  # by which a mask is blurred, grown or shrunk
MAX_MASK_PADDING = 512  # pixels around a mask
MAX_NOISE_MULTIPLIER = 1.5

# Characters that separate parts of Redis keys, paths, URLs and prompts.
_SEPARATORS = frozenset('/\\:*?"<>|')


def normal_form(name: str) -> str:
    """Return `name` in the normal form NFC: equal letters are equal names."""
    return unicodedata.normalize("NFC", name)


def _served(name: str) -> str:
    """Return the name of a model if it can be part of a key, a path and a log line."""
    if unsafe := next((c for c in name if c in _SEPARATORS or not c.isprintable()), None):
        raise ValueError(f"free of the character U+{ord(unsafe):04X}")
    if name[0] in ". " or name[-1] in ". ":
        raise ValueError("without a dot or a space at its beginning and end")
    return name


RANDOM_SEED = -1  # what other programs send for a random seed


def _whole(value: object) -> object:
    """Return a number without a fraction as an integer: JSON does not tell 20.0 from 20."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _seed_or_none(seed: int) -> int | None:
    return None if seed == RANDOM_SEED else seed


# Stands after the bounds, which pydantic describes in the JSON schema only next to the type.
WHOLE = BeforeValidator(_whole)

# `resolve` refuses NUL characters; the pattern is only for the OpenAPI description.
Prompt = Annotated[
    Text, Field(max_length=MAX_PROMPT_LENGTH, json_schema_extra={"pattern": r"^[^\u0000]*$"})
]
Name = Annotated[Text, Field(min_length=1, max_length=200), AfterValidator(normal_form)]
ServedName = Annotated[Name, AfterValidator(_served)]
ModelHash = Annotated[str, Field(pattern="^[0-9a-f]{10}$")]
InputKey = Annotated[str, Field(pattern=INPUT_KEY)]
Side = Annotated[Int, Field(ge=1, le=MAX_SIDE), WHOLE]
Overlap = Annotated[Int, Field(ge=0, le=MAX_SIDE), WHOLE]
Steps = Annotated[Int, Field(ge=1, le=MAX_STEPS), WHOLE]
GuidanceScale = Annotated[Float, Field(ge=0, le=MAX_GUIDANCE_SCALE)]
ImageGuidanceScale = Annotated[Float, Field(ge=1, le=MAX_IMAGE_GUIDANCE_SCALE)]
Seed = Annotated[Int, Field(ge=0, lt=SEED_LIMIT), WHOLE]
AskedSeed = Annotated[
    Int, Field(ge=RANDOM_SEED, lt=SEED_LIMIT), WHOLE, AfterValidator(_seed_or_none)
]
ImageCount = Annotated[Int, Field(ge=1, le=MAX_IMAGES), WHOLE]
ClipSkip = Annotated[Int, Field(ge=0, le=MAX_CLIP_SKIP), WHOLE]
NoiseLevel = Annotated[Int, Field(ge=0, le=MAX_NOISE_LEVEL), WHOLE]
Share = Annotated[Float, Field(ge=0, le=1)]
Extent = Annotated[Float, Field(gt=0, le=1)]
Strength = Annotated[Float, Field(gt=0, le=1)]
SwitchPoint = Annotated[Float, Field(gt=0, lt=1)]
ClassId = Annotated[Int, Field(ge=0, lt=MAX_CLASSES), WHOLE]
HiresScale = Annotated[Float, Field(gt=1, le=MAX_HIRES_SCALE)]
Scale = Annotated[Float, Field(ge=1, le=MAX_SCALE)]
NoiseMultiplier = Annotated[Float, Field(ge=0, le=MAX_NOISE_MULTIPLIER)]
AestheticScore = Annotated[Float, Field(ge=0, le=10)]
Quality = Annotated[Int, Field(ge=1, le=100), WHOLE]
Deadline = Annotated[Float, Field(gt=0, le=MAX_DEADLINE_S)]

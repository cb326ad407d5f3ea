"""Types and bounds of the fields that parameters, requests and model cards share.

The bounds are those that no model can exceed. Each model's card has tighter ones, which
`resolve` checks.
"""

from typing import Annotated

from pydantic import Field

from protocol.record import Float, Int, Text
from protocol.request.object_keys import INPUT_KEY

# Seeds are below this, so that JSON readers that hold numbers as doubles keep each one exactly.
SEED_LIMIT = 2**53

MAX_STEPS = 1000
MAX_SIDE = 16384  # pixels
MAX_IMAGES = 64
MAX_GUIDANCE_SCALE = 100.0
MAX_PROMPT_LENGTH = 20_000  # characters
MAX_CLIP_SKIP = 12
MAX_DEADLINE_S = 7 * 86400.0
MAX_CLASSES = 100_000
MAX_BOXES = 256
MAX_LORAS = 8
MAX_LORA_WEIGHT = 4.0  # of either sign
MAX_CONTROLS = 4
MAX_CONTROL_WEIGHT = 2.0
MAX_HIRES_SCALE = 8.0

Prompt = Annotated[Text, Field(max_length=MAX_PROMPT_LENGTH)]
Name = Annotated[Text, Field(min_length=1, max_length=200)]
InputKey = Annotated[str, Field(pattern=INPUT_KEY)]
Side = Annotated[Int, Field(ge=1, le=MAX_SIDE)]
Steps = Annotated[Int, Field(ge=1, le=MAX_STEPS)]
GuidanceScale = Annotated[Float, Field(ge=0, le=MAX_GUIDANCE_SCALE)]
Seed = Annotated[Int, Field(ge=0, lt=SEED_LIMIT)]
ImageCount = Annotated[Int, Field(ge=1, le=MAX_IMAGES)]
ClipSkip = Annotated[Int, Field(ge=0, le=MAX_CLIP_SKIP)]
Share = Annotated[Float, Field(ge=0, le=1)]
Extent = Annotated[Float, Field(gt=0, le=1)]
Strength = Annotated[Float, Field(gt=0, le=1)]
SwitchPoint = Annotated[Float, Field(gt=0, lt=1)]
ClassId = Annotated[Int, Field(ge=0, lt=MAX_CLASSES)]
HiresScale = Annotated[Float, Field(gt=1, le=MAX_HIRES_SCALE)]
AestheticScore = Annotated[Float, Field(ge=0, le=10)]
Quality = Annotated[Int, Field(ge=1, le=100)]
Deadline = Annotated[Float, Field(gt=0, le=MAX_DEADLINE_S)]

"""What a client asked for, complete: defaults filled in, seed drawn, a recipe for its pictures."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from protocol.record import Float, Int, Record, Text
from protocol.request.object_keys import INPUT_KEY, AudioFormat, OutputFormat
from protocol.request.prompts import PromptSyntax
from protocol.request.samplers import evaluations
from protocol.request.tasks import Task

__all__ = ["SEEDS", "Box", "GenerationRequest", "OutputFormat", "Task"]

SEEDS = (
    2**53
)  # seeds are below this: JSON readers that hold numbers as doubles keep every one of them exactly

# What no model can exceed; each model's card has tighter bounds, which `drafts.complete` holds.
MOST_STEPS = 1000
LARGEST_SIDE = 16384
MOST_IMAGES = 64
LARGEST_GUIDANCE = 100.0
LONGEST_PROMPT = 20_000  # characters
MOST_CLIP_SKIP = 12
LONGEST_DEADLINE_S = 7 * 86400.0
MOST_CLASSES = 100_000
MOST_BOXES = 256
MOST_LORAS = 8
LARGEST_LORA_WEIGHT = 4.0  # either way
MOST_CONTROLS = 4
CONTROL_SHARE = 1 / 3  # of a network row's work, for each ControlNet heard (Stable Diffusion 1.5)
LARGEST_CONTROL_WEIGHT = 2.0
UNIT_OF_WORK = 512 * 512  # pixels through one row of one step

Prompt = Annotated[Text, Field(max_length=LONGEST_PROMPT)]
Side = Annotated[Int, Field(ge=1, le=LARGEST_SIDE)]
Steps = Annotated[Int, Field(ge=1, le=MOST_STEPS)]
GuidanceScale = Annotated[Float, Field(ge=0, le=LARGEST_GUIDANCE)]
Seed = Annotated[Int, Field(ge=0, lt=SEEDS)]
ImageCount = Annotated[Int, Field(ge=1, le=MOST_IMAGES)]
Share = Annotated[Float, Field(ge=0, le=1)]
ClipSkip = Annotated[Int, Field(ge=0, le=MOST_CLIP_SKIP)]
Strength = Annotated[Float, Field(gt=0, le=1)]
Extent = Annotated[Float, Field(gt=0, le=1)]
ClassId = Annotated[Int, Field(ge=0, lt=MOST_CLASSES)]
Quality = Annotated[Int, Field(ge=1, le=100)]
Name = Annotated[Text, Field(min_length=1, max_length=200)]
Deadline = Annotated[Float, Field(gt=0, le=LONGEST_DEADLINE_S)]
Cut = Annotated[Float, Field(gt=0, lt=1)]
Score = Annotated[Float, Field(ge=0, le=10)]


LARGEST_HIRES_SCALE = 8.0

HiresScale = Annotated[Float, Field(gt=1, le=LARGEST_HIRES_SCALE)]


class Priority(StrEnum):
    """Who goes first. A lower one waits, but not for ever: see
    `protocol/connection/lua/claim.lua`."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Decoder(StrEnum):
    """What turns latents into pictures: the model's own decoder, or a tiny one trained to do as it
    does, which is many times faster and loses detail."""

    FULL = "full"
    TINY = "tiny"


class LoraUse(Record):
    """A LoRA that the operator has added, and how strongly it is meant: 1 is as it was trained."""

    name: Name
    weight: Annotated[Float, Field(ge=-LARGEST_LORA_WEIGHT, le=LARGEST_LORA_WEIGHT)] = 1.0


Loras = Annotated[tuple[LoraUse, ...], Field(max_length=MOST_LORAS)]


class Control(Record):
    """A ControlNet that the operator has added, and how it is heard: how strongly, and between
    which shares of the steps."""

    model: Name = Field(description="One of the model's controlnets.")
    weight: Annotated[Float, Field(ge=0, le=LARGEST_CONTROL_WEIGHT)] = Field(
        default=1.0, description="How strongly it is heard; 1 is as it was trained."
    )
    start: Share = Field(default=0.0, description="Share of the steps before which it is not.")
    end: Share = Field(default=1.0, description="Share of the steps after which it is not.")


class ControlUse(Control):
    """With the picture that it is shown: an RGB PNG of ours, of the size that is drawn."""

    image_key: Annotated[str, Field(pattern=INPUT_KEY)]


class Place(Record):
    """Where something is to be: left upper corner and extent, as shares of the picture's width and
    height."""

    model_config = ConfigDict(serialize_by_alias=True)

    x: Share = Field(description="Its left edge, as a share of the width.")
    y: Share = Field(description="Its upper edge, as a share of the height.")
    width: Extent = Field(description="As a share of the picture's.")
    height: Extent = Field(description="As a share of the picture's.")


class Box(Place):
    """A place for something of a class."""

    class_id: ClassId = Field(alias="class")


Boxes = Annotated[tuple[Box, ...], Field(min_length=1, max_length=MOST_BOXES)]


class Refinement(Record):
    """Another model takes over at `start`, a share of the noise schedule."""

    model: Name
    start: Cut


class HiresFix(Record):
    """What has been drawn is scaled up to this size and drawn once more, as by img2img."""

    width: Side
    height: Side
    steps: Steps
    strength: Strength


class GenerationRequest(Record):
    """A complete recipe. Sizes in pixels; the picture at `index` is drawn from `image_seed(index)`.

    What else there is depends on the task (`protocol.request.tasks`). Pictures are PNGs of ours
    in the
    object store, exactly width x height: RGB the image, L the mask (white = repaint) and the map of
    classes; only the image to be upscaled is smaller, by the model's factor.
    Guidance is applied from `guidance_start` up to `guidance_end`, as shares of the steps.
    `deadline_s` counts from acceptance: after that nobody waits for the pictures any more.
    """

    task: Task
    model: Name
    prompt: Prompt
    negative_prompt: Prompt
    prompt_syntax: PromptSyntax = PromptSyntax.WEIGHTS
    clip_skip: ClipSkip = 0
    width: Side
    height: Side
    steps: Steps
    sampler: Name
    schedule: Name
    eta: Share = 0.0
    guidance_scale: GuidanceScale
    guidance_rescale: Share = 0.0
    guidance_start: Share = 0.0
    guidance_end: Share = 1.0
    seed: Seed
    n: ImageCount
    strength: Strength | None = None
    image_key: Annotated[str, Field(pattern=INPUT_KEY)] | None = None
    mask_key: Annotated[str, Field(pattern=INPUT_KEY)] | None = None
    class_id: ClassId | None = None
    boxes: Boxes | None = None
    decoder: Decoder = Decoder.FULL
    previews: bool = False
    loras: Loras = ()
    controls: Annotated[tuple[ControlUse, ...], Field(max_length=MOST_CONTROLS)] = ()
    refinement: Refinement | None = None
    enlargement: HiresFix | None = None
    aesthetic_score: Score | None = None
    output_format: OutputFormat
    quality: Quality
    audio_format: AudioFormat | None = None
    audio_stereo: bool = False
    priority: Priority = Priority.NORMAL
    deadline_s: Deadline | None = None

    @model_validator(mode="after")
    def _inputs_fit_the_task(self) -> Self:
        for field in ("image", "mask", "strength", "class_id", "boxes"):
            name = f"{field}_key" if field in ("image", "mask") else field
            if (getattr(self, name) is not None) != self.task.takes(field):
                raise ValueError(f"{name} and task {self.task} do not go together")
        if self.controls and not self.task.takes("controls"):
            raise ValueError(f"controls and task {self.task} do not go together")
        if self.guidance_start > self.guidance_end:
            raise ValueError("guidance_start is after guidance_end")
        return self

    @property
    def input_keys(self) -> tuple[str, ...]:
        """Of all pictures that it names in the object store."""
        own = (key for key in (self.image_key, self.mask_key) if key is not None)
        return *own, *(control.image_key for control in self.controls)

    def image_seed(self, index: int) -> int:
        """The seed of picture `index` (0..n-1): the request's plus the index, wrapping round."""
        return (self.seed + index) % SEEDS

    @property
    def work(self) -> float:
        """How much there is to do: rows of the network x pixels, in `UNIT_OF_WORK`s; above 0."""
        guided = self.guidance_end - self.guidance_start if self.guidance_scale > 1 else 0.0
        rows = self.n * (1 + guided)
        pixels = evaluations(self.sampler, self.steps) * self.width * self.height
        if second := self.enlargement:
            redrawn = evaluations(self.sampler, max(1, int(second.steps * second.strength)))
            pixels += redrawn * second.width * second.height
        heard = sum(max(0.0, control.end - control.start) for control in self.controls)
        return rows * pixels * (1 + CONTROL_SHARE * heard) / UNIT_OF_WORK

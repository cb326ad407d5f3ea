"""The generation request: resolved parameters, stored in the queue and read by the worker."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from protocol.record import Float, Record
from protocol.request import fields
from protocol.request.object_keys import AudioFormat, OutputFormat
from protocol.request.prompts import PromptSyntax
from protocol.request.samplers import evaluations
from protocol.request.tasks import Task

__all__ = ["Box", "GenerationRequest", "OutputFormat", "Task"]

# The share of a network row's work that each ControlNet adds (Stable Diffusion 1.5).
CONTROL_SHARE = 1 / 3
UNIT_OF_WORK = 512 * 512  # pixels through one row of one step


class Priority(StrEnum):
    """The order of jobs in the queue.

    A job of lower priority waits, but not for ever: see `protocol/connection/lua/claim.lua`.
    """

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Decoder(StrEnum):
    """The network that decodes latents: the model's own, or a tiny one trained to match it.

    The tiny one is many times faster and loses detail.
    """

    FULL = "full"
    TINY = "tiny"


class LoraUse(Record):
    """A LoRA that the operator has added, and its weight: 1 is as it was trained."""

    name: fields.Name
    weight: Float = Field(default=1.0, ge=-fields.MAX_LORA_WEIGHT, le=fields.MAX_LORA_WEIGHT)


Loras = Annotated[tuple[LoraUse, ...], Field(max_length=fields.MAX_LORAS)]


class Control(Record):
    """A ControlNet that the operator has added, its weight, and the shares of the steps between
    which it is applied."""

    model: fields.Name = Field(description="One of the model's controlnets.")
    weight: Float = Field(
        default=1.0,
        ge=0,
        le=fields.MAX_CONTROL_WEIGHT,
        description="The weight of its output; 1 is as it was trained.",
    )
    start: fields.Share = Field(
        default=0.0, description="Share of the steps before which it is not applied."
    )
    end: fields.Share = Field(
        default=1.0, description="Share of the steps after which it is not applied."
    )


class ControlUse(Control):
    """A ControlNet with its control image: a stored RGB PNG of the size of the generated image."""

    image_key: fields.InputKey


class Rectangle(Record):
    """A rectangle: left upper corner and extent, as shares of the image's width and height."""

    model_config = ConfigDict(serialize_by_alias=True)

    x: fields.Share = Field(description="Its left edge, as a share of the image's width.")
    y: fields.Share = Field(description="Its upper edge, as a share of the image's height.")
    width: fields.Extent = Field(description="As a share of the image's width.")
    height: fields.Extent = Field(description="As a share of the image's height.")


class Box(Rectangle):
    """A rectangle for an object of a class."""

    class_id: fields.ClassId = Field(alias="class")


Boxes = Annotated[tuple[Box, ...], Field(min_length=1, max_length=fields.MAX_BOXES)]


class Refinement(Record):
    """The model that takes over at `start`, a share of the noise schedule."""

    model: fields.Name
    start: fields.SwitchPoint


class HiresFix(Record):
    """A second pass: the image is scaled up to this size and generated again, as by img2img."""

    width: fields.Side
    height: fields.Side
    steps: fields.Steps
    strength: fields.Strength


class GenerationRequest(Record):
    """All that is needed to generate images. Sizes in pixels.

    The image at `index` is generated from `image_seed(index)`. Which of the optional fields are
    there depends on the task (`protocol.request.tasks`).
    Input images are PNGs in the object store, exactly width x height: RGB the image, L the mask
    (white = repaint) and the map of classes. Only the image to upscale is smaller, by the model's
    factor.
    Guidance is applied from `guidance_start` up to `guidance_end`, as shares of the steps.
    `deadline_s` counts from acceptance: after that the job is dropped.

    The order of the fields is that of the stored JSON. The digest of a request and the text
    chunk of a PNG depend on it.
    """

    task: Task
    model: fields.Name
    prompt: fields.Prompt
    negative_prompt: fields.Prompt
    prompt_syntax: PromptSyntax = PromptSyntax.WEIGHTS
    clip_skip: fields.ClipSkip = 0
    width: fields.Side
    height: fields.Side
    steps: fields.Steps
    sampler: fields.Name
    schedule: fields.Name
    eta: fields.Share = 0.0
    guidance_scale: fields.GuidanceScale
    guidance_rescale: fields.Share = 0.0
    guidance_start: fields.Share = 0.0
    guidance_end: fields.Share = 1.0
    seed: fields.Seed
    n: fields.ImageCount
    strength: fields.Strength | None = None
    image_key: fields.InputKey | None = None
    mask_key: fields.InputKey | None = None
    class_id: fields.ClassId | None = None
    boxes: Boxes | None = None
    decoder: Decoder = Decoder.FULL
    previews: bool = False
    loras: Loras = ()
    controls: Annotated[tuple[ControlUse, ...], Field(max_length=fields.MAX_CONTROLS)] = ()
    refinement: Refinement | None = None
    enlargement: HiresFix | None = None
    aesthetic_score: fields.AestheticScore | None = None
    output_format: OutputFormat
    quality: fields.Quality
    audio_format: AudioFormat | None = None
    audio_stereo: bool = False
    priority: Priority = Priority.NORMAL
    deadline_s: fields.Deadline | None = None

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
        """Keys of all input images in the object store."""
        own = (key for key in (self.image_key, self.mask_key) if key is not None)
        return *own, *(control.image_key for control in self.controls)

    def image_seed(self, index: int) -> int:
        """Return the seed of image `index` (0..n-1): `seed` plus the index, modulo `SEED_LIMIT`."""
        return (self.seed + index) % fields.SEED_LIMIT

    @property
    def work(self) -> float:
        """The work to do: rows of the network x pixels, in `UNIT_OF_WORK`s; above 0."""
        guided = self.guidance_end - self.guidance_start if self.guidance_scale > 1 else 0.0
        rows = self.n * (1 + guided)
        pixels = evaluations(self.sampler, self.steps) * self.width * self.height
        if second := self.enlargement:
            steps = max(1, int(second.steps * second.strength))
            pixels += evaluations(self.sampler, steps) * second.width * second.height
        controlled = sum(max(0.0, control.end - control.start) for control in self.controls)
        return rows * pixels * (1 + CONTROL_SHARE * controlled) / UNIT_OF_WORK

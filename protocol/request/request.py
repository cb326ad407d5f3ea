"""The generation request: resolved parameters, stored in the queue and read by the worker."""

import math
from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from protocol.record import Bool, Float, Record
from protocol.request import fields
from protocol.request.client_record import ClientRecord
from protocol.request.inpainting import (
    InpaintArea,
    MaskBlur,
    MaskedContent,
    MaskGrow,
    MaskMode,
    MaskPadding,
    MaskSource,
    Paste,
    ResizeMode,
)
from protocol.request.loras.lora_use import Loras, LoraUse
from protocol.request.object_keys import AudioFormat, OutputFormat
from protocol.request.outpainting import Outpainting
from protocol.request.prompts import PromptSyntax
from protocol.request.samplers import LATENT_MODES, evaluations
from protocol.request.tasks import Task

__all__ = ["Box", "GenerationRequest", "LoraUse", "Loras", "OutputFormat", "Task"]

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


class Control(ClientRecord):
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


def _is_none(value: object) -> bool:
    return value is None


def _is_true(value: object) -> bool:
    return value is True


class Refinement(Record):
    """The model that takes over at `start`, a share of the noise schedule."""

    model: fields.Name
    start: fields.SwitchPoint


class HiresFix(Record):
    """A second pass: the image is scaled up to this size and generated again, as by img2img.

    `upscaler`: what scales up its pixels. None, and one of `LATENT_MODES`: its latents are scaled
    up.
    """

    width: fields.Side
    height: fields.Side
    steps: fields.Steps
    strength: fields.Strength
    upscaler: fields.Name | None = Field(default=None, exclude_if=_is_none)


class Upscaling(Record):
    """The upscalers of an image, whose results are mixed with `blend`, the share of the second.

    `scale`: how much the image is enlarged; None in requests stored before it was noted.
    """

    upscaler: fields.Name
    upscaler_2: fields.Name | None = None
    blend: fields.Share = 0.5
    scale: fields.Scale | None = Field(default=None, exclude_if=_is_none)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.upscaler,) if self.upscaler_2 is None else (self.upscaler, self.upscaler_2)


class Tiles(Record):
    """The tiles in which an image is generated, after `upscaler` has brought it to the size.

    Each is `size` wide and high and shares at least `overlap` with its neighbours, in pixels.
    """

    size: fields.Side
    overlap: fields.Overlap
    upscaler: fields.Name

    @model_validator(mode="after")
    def _tiles_are_larger_than_overlaps(self) -> Self:
        if 2 * self.overlap > self.size:
            raise ValueError("the overlap is more than half of a tile")
        return self

    def count(self, width: int, height: int) -> int:
        """Return the number of tiles that cover an image."""
        stride = self.size - self.overlap
        further = (max(0, -(-(side - self.size) // stride)) for side in (width, height))
        return math.prod(1 + n for n in further)

    def pixels(self, width: int, height: int) -> int:
        """Return the pixels of all tiles of an image together."""
        tile = min(self.size, width) * min(self.size, height)
        return self.count(width, height) * tile


# Left out of the JSON if None: requests without these options have the same text as before them.
_OPTION = Field(exclude_if=_is_none)


class GenerationRequest(Record):
    """All that is needed to generate images. Sizes in pixels.

    The image at `index` is generated from `image_seed(index)`. Which of the optional fields are
    there depends on the task (`protocol.request.tasks`).
    Input images are PNGs in the object store, exactly width x height: RGB the image and its depth
    map, L the mask (white = repaint) and the map of classes. Only the image to upscale has a size
    of its own: it is smaller by the model's factor, or by any with `upscaling` or `tiles`; so have
    control images and the depth map with `tiles`; and that to outpaint has the size of its place in
    `outpainting`, in RGB or RGBA. `paste` makes the result of what was generated, if that is not
    all of it.
    Guidance is applied from `guidance_start` up to `guidance_end`, as shares of the steps.
    `deadline_s` counts from acceptance: after that the job is dropped. `model_hash` is what the
    model's card had as `short_hash`, for the texts of the images.

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
    paste: Annotated[Paste | None, _OPTION] = None
    mask_blur: Annotated[MaskBlur | None, _OPTION] = None
    mask_grow: Annotated[MaskGrow | None, _OPTION] = None
    mask_invert: Annotated[Bool | None, _OPTION] = None
    mask_source: Annotated[MaskSource | None, _OPTION] = None
    mask_mode: Annotated[MaskMode | None, _OPTION] = None
    inpaint_area: Annotated[InpaintArea | None, _OPTION] = None
    mask_padding: Annotated[MaskPadding | None, _OPTION] = None
    masked_content: Annotated[MaskedContent | None, _OPTION] = None
    resize_mode: Annotated[ResizeMode | None, _OPTION] = None
    noise_multiplier: Annotated[fields.NoiseMultiplier | None, _OPTION] = None
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
    metadata: Bool = Field(default=True, exclude_if=_is_true)
    audio_format: AudioFormat | None = None
    audio_stereo: bool = False
    priority: Priority = Priority.NORMAL
    deadline_s: fields.Deadline | None = None
    # Left out of the stored JSON where they are not used, as files have been without them.
    upscaling: Upscaling | None = Field(default=None, exclude_if=_is_none)
    tiles: Tiles | None = Field(default=None, exclude_if=_is_none)
    outpainting: Outpainting | None = Field(default=None, exclude_if=_is_none)
    image_guidance_scale: Annotated[fields.ImageGuidanceScale | None, _OPTION] = None
    depth_map_key: Annotated[fields.InputKey | None, _OPTION] = None
    noise_level: Annotated[fields.NoiseLevel | None, _OPTION] = None
    model_hash: Annotated[fields.ModelHash | None, _OPTION] = None

    @model_validator(mode="after")
    def _inputs_fit_the_task(self) -> Self:
        for field in ("image", "mask", "strength", "class_id", "boxes"):
            name = f"{field}_key" if field in ("image", "mask") else field
            if (getattr(self, name) is not None) != self.task.takes(field):
                raise ValueError(f"{name} and task {self.task} do not go together")
        for field, given in (("controls", self.controls), ("depth_map", self.depth_map_key)):
            if given and not self.task.takes(field):
                raise ValueError(f"{field} and task {self.task} do not go together")
        if self.upscaling is not None and self.task is not Task.UPSCALE:
            raise ValueError(f"upscaling and task {self.task} do not go together")
        if self.tiles is not None and self.task is not Task.IMG2IMG:
            raise ValueError(f"tiles and task {self.task} do not go together")
        if (self.outpainting is not None) != (self.task is Task.OUTPAINT):
            raise ValueError(f"outpainting and task {self.task} do not go together")
        if self.guidance_start > self.guidance_end:
            raise ValueError("guidance_start is after guidance_end")
        return self

    @property
    def input_keys(self) -> tuple[str, ...]:
        """Keys of all input images in the object store."""
        files = (self.image_key, self.mask_key, self.depth_map_key)
        own = (key for key in files if key is not None)
        pasted = self.paste.input_keys if self.paste else ()
        return *own, *pasted, *(control.image_key for control in self.controls)

    @property
    def upscalers(self) -> tuple[str, ...]:
        """The names of all upscalers."""
        hires = self.enlargement.upscaler if self.enlargement else None
        hires = None if hires in LATENT_MODES else hires
        own = self.upscaling.names if self.upscaling else ()
        before_tiles = self.tiles.upscaler if self.tiles else None
        return *own, *(name for name in (hires, before_tiles) if name is not None)

    def image_seed(self, index: int) -> int:
        """Return the seed of image `index` (0..n-1): `seed` plus the index, modulo `SEED_LIMIT`."""
        return (self.seed + index) % fields.SEED_LIMIT

    @property
    def work(self) -> float:
        """The work to do: rows of the network x pixels, in `UNIT_OF_WORK`s; above 0."""
        guided = self.guidance_end - self.guidance_start if self.guidance_scale > 1 else 0.0
        # A third row for guidance by an image: see `DenoisingState.is_guided_by_image`.
        by_image = guided if self.image_guidance_scale not in (None, 1.0) else 0.0
        rows = self.n * (1 + guided + by_image)
        pixels = evaluations(self.sampler, self.steps) * self._area
        if second := self.enlargement:
            steps = max(1, int(second.steps * second.strength))
            pixels += evaluations(self.sampler, steps) * second.width * second.height
        controlled = sum(max(0.0, control.end - control.start) for control in self.controls)
        return rows * pixels * (1 + CONTROL_SHARE * controlled) / UNIT_OF_WORK

    @property
    def _area(self) -> int:
        """The pixels that one step of the first pass generates."""
        if self.tiles is not None:
            return self.tiles.pixels(self.width, self.height)
        return self.width * self.height if self.outpainting is None else self.outpainting.pixels

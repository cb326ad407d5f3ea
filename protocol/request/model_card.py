"""Model cards: the abilities of a model and the bounds of its requests."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from protocol.record import Float, Int, Record
from protocol.request import fields
from protocol.request.request import Decoder
from protocol.request.tasks import Task

SHORT_HASH = 10  # digits
MAX_NAMES = 20  # LoRAs or ControlNets that an error message lists

Positive = Annotated[Int, Field(ge=1)]
Count = Annotated[Int, Field(ge=0)]


class UpscalerInfo(Record):
    """An upscaler that the operator has added; its network enlarges by `scale`."""

    name: fields.Name
    scale: Positive


class LoraInfo(Record):
    """The facts about a LoRA besides its name.

    `trigger_words` and `preview` (a small image as a data URI) are from its file. `words` are the
    embeddings that it brings along, with their vectors. `sampler`, `schedule`, `guidance_scale` and
    `steps` are those that it was trained for, from its card or known from its name; they are the
    defaults of a request with the LoRA.
    """

    name: fields.Name
    trigger_words: str = ""
    preview: str = ""
    words: Mapping[str, Positive] = Field(default_factory=dict)
    sampler: fields.Name | None = None
    schedule: fields.Name | None = None
    guidance_scale: fields.GuidanceScale | None = None
    steps: fields.Steps | None = None


class ModelCard(Record):
    """The abilities of a model and the bounds of its requests.

    Sizes are in pixels, prompt lengths in tokens without the end marks (0: it reads no prompts).
    Classes are numbers below `classes`; `class_names` are their names, if an operator has given
    them. `outputs` lists the files for each image of a request. Upscaled images are
    `upscale_factor` times as wide and as high. `refiners` may take over its last steps.
    `loras`, `embeddings` (words in prompts) and `controlnets` are those the operator has added
    that are compatible with it, and the LoRAs that come with it; `misfits` are the reasons that
    others are not, by kind and name. `lora_info` is what is known of some LoRAs. A
    `default_image_guidance_scale` is of models that edit images by instructions. One that
    `reads_depth_map` needs a map of the image's depth. A `default_noise_level` is of models that
    upscale an image with noise of a level up to `max_noise_level`. `upscalers` are those of its
    workers. `aliases` are further names of the model. `sha256` is the digest of the single file
    that the model is, or was made from; empty for a folder, and until a worker has read the file.
    """

    name: fields.ServedName
    aliases: tuple[fields.ServedName, ...] = ()
    family: fields.Name
    description: str = ""
    tasks: tuple[Task, ...] = (Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT)
    size_multiple: Positive = 8
    default_width: fields.Side
    default_height: fields.Side
    min_side: fields.Side
    max_side: fields.Side
    max_pixels: Positive
    default_steps: fields.Steps = 20
    max_steps: fields.Steps = 150
    default_guidance_scale: fields.GuidanceScale = 7.5
    max_guidance_scale: fields.GuidanceScale = 30.0
    default_image_guidance_scale: fields.ImageGuidanceScale | None = None
    default_strength: fields.Strength = 0.75
    max_images: fields.ImageCount = 10
    samplers: tuple[fields.Name, ...]
    schedules: tuple[fields.Name, ...]
    default_sampler: fields.Name
    default_schedule: fields.Name
    default_eta: fields.Share = 0.0
    max_prompt_tokens: Count = 225
    chunk_tokens: Count = 75
    max_clip_skip: fields.ClipSkip = 0
    classes: Count = 0
    class_names: tuple[fields.Name, ...] = ()
    max_boxes: Count = 0
    upscale_factor: Positive = 1
    default_noise_level: fields.NoiseLevel | None = None
    max_noise_level: fields.NoiseLevel = 0
    decoders: tuple[Decoder, ...] = (Decoder.FULL,)
    outputs: tuple[fields.Name, ...] = ("image",)
    refiners: tuple[fields.Name, ...] = ()
    loras: tuple[fields.Name, ...] = ()
    lora_info: tuple[LoraInfo, ...] = ()
    embeddings: tuple[fields.Name, ...] = ()
    controlnets: tuple[fields.Name, ...] = ()
    misfits: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    upscalers: tuple[UpscalerInfo, ...] = ()
    reads_aesthetic_score: bool = False
    reads_depth_map: bool = False
    scaling_factor: Float | None = None
    tokenizer_sha256: str = ""
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""

    @model_validator(mode="after")
    def _defaults_are_legal(self) -> Self:
        if self.default_sampler not in self.samplers or self.default_schedule not in self.schedules:
            raise ValueError("the default sampler and schedule must be among those offered")
        if not self.allows_size(self.default_width, self.default_height):
            raise ValueError("the default size must be a legal size")
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError("there must be as many class_names as classes, or none")
        return self

    @property
    def short_hash(self) -> str:
        """Return the part of `sha256` by which AUTOMATIC1111 names a checkpoint, or ""."""
        return self.sha256[:SHORT_HASH]

    @property
    def reads_prompts(self) -> bool:
        return self.max_prompt_tokens > 0

    def allows_size(self, width: int, height: int) -> bool:
        sides = (width, height)
        return (
            all(
                side % self.size_multiple == 0 and self.min_side <= side <= self.max_side
                for side in sides
            )
            and width * height <= self.max_pixels
        )


def canonical_name(name: str | None, cards: Mapping[str, ModelCard]) -> str | None:
    """Return the name of the model with this name or alias, None if there is none."""
    if name in cards:
        return name
    return next((card.name for card in cards.values() if name in card.aliases), None)


def offered_names(kind: str, names: tuple[str, ...], card: ModelCard, wanted: str) -> str:
    """Return a bound for an error message: the names that the card offers, up to `MAX_NAMES`, and
    the reason that `wanted` is not among them, if the operator has added it.

    kind: "LoRAs" or "ControlNets".
    """
    reason = card.misfits.get(kind.lower(), {}).get(wanted)
    why = f"; {wanted}: {reason}" if reason else ""
    if not names:
        return f"absent: there are no {kind} for {card.name}{why}"
    more = len(names) - MAX_NAMES
    return (
        f"one of {', '.join(names[:MAX_NAMES])}" + (f" and {more} more" if more > 0 else "") + why
    )

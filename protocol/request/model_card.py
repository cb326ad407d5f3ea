"""Model cards: what a model can do, and within which bounds."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from protocol.record import Float, Int, Record
from protocol.request.request import (
    ClipSkip,
    Decoder,
    GuidanceScale,
    ImageCount,
    Name,
    Share,
    Side,
    Steps,
    Strength,
    Task,
)

Positive = Annotated[Int, Field(ge=1)]
Count = Annotated[Int, Field(ge=0)]


class ModelCard(Record):
    """What a model can do, and within which bounds.

    Sizes are in pixels, prompt lengths in tokens without the end marks (0: it reads no words).
    Classes are numbers below `classes`; `class_names`, where an operator has given them, say what
    they mean. `outputs` is what it gives for each picture asked for. What it upscales becomes
    `upscale_factor` times as wide and as high. `refiners` may take over its last steps.
    `loras`, `embeddings` (words of a prompt) and `controlnets` are those of the operator's that fit
    it. It goes by its `aliases` too.
    """

    name: Name
    aliases: tuple[Name, ...] = ()
    family: Name
    description: str = ""
    tasks: tuple[Task, ...] = (Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT)
    size_multiple: Positive = 8
    default_width: Side
    default_height: Side
    min_side: Side
    max_side: Side
    max_pixels: Positive
    default_steps: Steps = 20
    max_steps: Steps = 150
    default_guidance_scale: GuidanceScale = 7.5
    max_guidance_scale: GuidanceScale = 30.0
    default_strength: Strength = 0.75
    max_images: ImageCount = 8
    samplers: tuple[Name, ...]
    schedules: tuple[Name, ...]
    default_sampler: Name
    default_schedule: Name
    default_eta: Share = 0.0
    max_prompt_tokens: Count = 225
    chunk_tokens: Count = 75
    max_clip_skip: ClipSkip = 0
    classes: Count = 0
    class_names: tuple[Name, ...] = ()
    max_boxes: Count = 0
    upscale_factor: Positive = 1
    decoders: tuple[Decoder, ...] = (Decoder.FULL,)
    outputs: tuple[Name, ...] = ("image",)
    refiners: tuple[Name, ...] = ()
    loras: tuple[Name, ...] = ()
    embeddings: tuple[Name, ...] = ()
    controlnets: tuple[Name, ...] = ()
    reads_aesthetic_score: bool = False
    scaling_factor: Float | None = None
    tokenizer_sha256: str = ""

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
    def reads_words(self) -> bool:
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


def true_name(name: str | None, cards: Mapping[str, ModelCard]) -> str | None:
    """The name of the model that is called so, by its name or by an alias; None if none is."""
    if name in cards:
        return name
    return next((card.name for card in cards.values() if name in card.aliases), None)

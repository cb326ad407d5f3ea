"""The parameters of a generation as a client sends them, each within its own bounds."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from protocol.record import Record
from protocol.request.classes import AskedBoxes, ClassWord
from protocol.request.object_keys import INPUT_KEY, AudioFormat, OutputFormat
from protocol.request.prompts import PromptSyntax
from protocol.request.request import (
    MOST_CONTROLS,
    ClipSkip,
    Control,
    Cut,
    Deadline,
    Decoder,
    GuidanceScale,
    HiresScale,
    ImageCount,
    Loras,
    Name,
    Priority,
    Prompt,
    Quality,
    Score,
    Seed,
    Share,
    Side,
    Steps,
    Strength,
)
from protocol.request.validation_errors import first_refusal

DEFAULT_QUALITY = 90

D = TypeVar("D", bound="GenerationParams")


class GenerationParams(Record):
    """What a client may say. What is left out and not of the task's own takes a default."""

    prompt: Prompt = Field(
        default="", description="What the picture shows.", examples=["a slice of pizza"]
    )
    negative_prompt: Prompt = Field(default="", description="What the picture should not show.")
    prompt_syntax: PromptSyntax = Field(
        default=PromptSyntax.WEIGHTS,
        description="weights: (word:1.3), [less], BREAK and <lora:name:0.8> have their meaning; "
        "plain: prompts are nothing but words.",
    )
    clip_skip: ClipSkip = Field(
        default=0,
        description="Layers of the text encoder that are left out at its end, beyond the model's "
        "own way.",
    )
    model: Name | None = Field(
        default=None, description="A name from /v1/models; default: the model being served."
    )
    width: Side | None = Field(
        default=None, description="Pixels; a multiple of the model's size_multiple."
    )
    height: Side | None = Field(
        default=None, description="Pixels; a multiple of the model's size_multiple."
    )
    steps: Steps | None = Field(default=None, description="Denoising steps.")
    sampler: Name | None = Field(default=None, description="A name from /v1/samplers.")
    schedule: Name | None = Field(
        default=None, description="How timesteps are spaced; a name from /v1/samplers."
    )
    eta: Share | None = Field(
        default=None, description="Fresh noise in each step of ddim, from none (0) to all (1)."
    )
    guidance_scale: GuidanceScale | None = Field(
        default=None,
        description="How strictly the prompt is followed; 1 or less turns guidance off.",
    )
    guidance_rescale: Share = Field(
        default=0.0,
        description="How far guidance is kept from raising contrast, from not at all to 1.",
    )
    guidance_start: Share = Field(
        default=0.0,
        description="Share of the steps that is left unguided at the start: faster, approximate.",
    )
    guidance_end: Share = Field(
        default=1.0,
        description="Share of the steps after which guidance ends; steps without it cost half.",
    )
    seed: Seed | None = Field(
        default=None,
        description="The same request and seed give the same picture. Default: drawn at random.",
    )
    n: ImageCount = Field(
        default=1, description="How many pictures; picture i is drawn from seed + i."
    )
    strength: Strength | None = Field(
        default=None,
        description="img2img and inpaint only: how far to leave the image behind, above 0 up to 1.",
    )
    class_id: ClassWord | None = Field(
        default=None, description="Of class only: what to show, a number below the model's classes."
    )
    boxes: AskedBoxes | None = Field(
        default=None,
        description="Of layout only: what is where, a list of {class, x, y, width, height}.",
    )
    decoder: Decoder = Field(
        default=Decoder.FULL,
        description="full, or tiny where the model's decoders say so: faster, with less detail.",
    )
    loras: Loras = Field(
        default=(),
        description="LoRAs to draw with: a list of {name, weight}, their names among "
        "the model's loras. In a prompt, <lora:name:0.8> says the same.",
    )
    controls: tuple[Control, ...] | None = Field(
        default=None,
        max_length=MOST_CONTROLS,
        description="txt2img, img2img and inpaint only: pictures that say where things are to be, "
        "a list of {model, image, weight, start, end}.",
    )
    previews: bool = Field(
        default=False,
        description="Whether a running job shows small pictures of how it comes on.",
    )
    refiner: Name | None = Field(
        default=None,
        description="txt2img only: who takes over the last steps; one of the model's refiners.",
    )
    refiner_start: Cut | None = Field(
        default=None,
        description="Share of the noise schedule after which the refiner goes on; default 0.8.",
    )
    aesthetic_score: Score | None = Field(
        default=None, description="What a refiner is told that the picture deserves; default 6."
    )
    hires_scale: HiresScale | None = Field(
        default=None,
        description="txt2img only: draw at width x height, scale up by this, and draw once more.",
    )
    hires_steps: Steps | None = Field(
        default=None, description="Steps of the second pass of hires_scale; default: steps."
    )
    hires_strength: Strength | None = Field(
        default=None,
        description="How far the second pass of hires_scale may leave the first; default 0.7.",
    )
    output_format: OutputFormat = Field(
        default=OutputFormat.PNG, description="The file format of the pictures."
    )
    quality: Quality = Field(
        default=DEFAULT_QUALITY, description="Of JPEG and WebP files; PNG is lossless."
    )
    audio_format: AudioFormat | None = Field(
        default=None,
        description="For models that draw sounds: the picture as a wav, flac or mp3, too.",
    )
    audio_stereo: bool = Field(
        default=False, description="Left is what green shows, right what blue does."
    )
    priority: Priority = Field(
        default=Priority.NORMAL, description="Who goes first: high, normal or low."
    )
    deadline_s: Deadline | None = Field(
        default=None,
        description="Seconds after which nobody waits any more: what has not finished is dropped.",
    )


class InputImage(Record):
    """A client's image, ready for the worker: a PNG of ours under `key`. Sizes in pixels."""

    key: Annotated[str, Field(pattern=INPUT_KEY)]
    width: Side
    height: Side


def parse(kind: type[D], fields: Mapping[str, object]) -> D:
    """`fields`, as read from JSON, as a draft of that kind.

    Raises `InvalidRequest` naming the first wrong field.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise first_refusal(error) from error

"""Generation parameters: the fields that a client may send, each within its own bounds."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import Field, ValidationError

from protocol.record import Record
from protocol.request import fields
from protocol.request.classes import AskedBoxes, ClassRef
from protocol.request.object_keys import AudioFormat, OutputFormat
from protocol.request.prompts import PromptSyntax
from protocol.request.request import Control, Decoder, Loras, Priority
from protocol.request.validation_errors import first_invalid_request

P = TypeVar("P", bound="GenerationParams")


class GenerationParams(Record):
    """The fields of a request. Those left out take a default, unless the task requires them."""

    prompt: fields.Prompt = Field(
        default="", description="What the image shows.", examples=["a slice of pizza"]
    )
    negative_prompt: fields.Prompt = Field(
        default="", description="What the image should not show."
    )
    prompt_syntax: PromptSyntax = Field(
        default=PromptSyntax.WEIGHTS,
        description="weights: (word:1.3), [less], BREAK and <lora:name:0.8> are read as syntax; "
        "plain: a prompt is text only.",
    )
    clip_skip: fields.ClipSkip = Field(
        default=0,
        description="Layers skipped at the end of the text encoder, in addition to those that the "
        "model skips.",
    )
    model: fields.Name | None = Field(
        default=None, description="A name from /v1/models; default: the model that is served."
    )
    width: fields.Side | None = Field(
        default=None, description="Pixels; a multiple of the model's size_multiple."
    )
    height: fields.Side | None = Field(
        default=None, description="Pixels; a multiple of the model's size_multiple."
    )
    steps: fields.Steps | None = Field(default=None, description="Denoising steps.")
    sampler: fields.Name | None = Field(default=None, description="A name from /v1/samplers.")
    schedule: fields.Name | None = Field(
        default=None, description="The spacing of timesteps; a name from /v1/samplers."
    )
    eta: fields.Share | None = Field(
        default=None, description="Fresh noise in each step of ddim, from none (0) to all (1)."
    )
    guidance_scale: fields.GuidanceScale | None = Field(
        default=None,
        description="Strength of classifier-free guidance; 1 or less turns it off.",
    )
    guidance_rescale: fields.Share = Field(
        default=0.0,
        description="Rescaling of guidance against too much contrast, from none (0) to full (1).",
    )
    guidance_start: fields.Share = Field(
        default=0.0,
        description="Share of the steps before which there is no guidance: faster, approximate.",
    )
    guidance_end: fields.Share = Field(
        default=1.0,
        description="Share of the steps after which there is no guidance; such steps cost half.",
    )
    seed: fields.Seed | None = Field(
        default=None,
        description="The same request and seed give the same image. Default: a random seed.",
    )
    n: fields.ImageCount = Field(
        default=1, description="Number of images; image i is generated from seed + i."
    )
    strength: fields.Strength | None = Field(
        default=None,
        description="img2img and inpaint only: how much of the image to change, above 0 up to 1.",
    )
    class_id: ClassRef | None = Field(
        default=None,
        description="class only: the class to show, a number below the model's classes.",
    )
    boxes: AskedBoxes | None = Field(
        default=None,
        description="layout only: objects in boxes, a list of {class, x, y, width, height}.",
    )
    decoder: Decoder = Field(
        default=Decoder.FULL,
        description="full, or tiny if it is among the model's decoders: faster, with less detail.",
    )
    loras: Loras = Field(
        default=(),
        description="LoRAs to apply: a list of {name, weight}, their names among "
        "the model's loras. In a prompt, <lora:name:0.8> does the same.",
    )
    controls: tuple[Control, ...] | None = Field(
        default=None,
        max_length=fields.MAX_CONTROLS,
        description="txt2img, img2img and inpaint only: control images for ControlNets, "
        "a list of {model, image, weight, start, end}.",
    )
    previews: bool = Field(
        default=False,
        description="Whether a running job shows small previews of its images.",
    )
    refiner: fields.Name | None = Field(
        default=None,
        description="txt2img only: the model for the last steps; one of the model's refiners.",
    )
    refiner_start: fields.SwitchPoint | None = Field(
        default=None,
        description="Share of the noise schedule after which the refiner takes over; default 0.8.",
    )
    aesthetic_score: fields.AestheticScore | None = Field(
        default=None, description="The aesthetic score a refiner is conditioned on; default 6."
    )
    hires_scale: fields.HiresScale | None = Field(
        default=None,
        description="txt2img only: generate at width x height, scale up by this, generate again.",
    )
    hires_steps: fields.Steps | None = Field(
        default=None, description="Steps of the second pass of hires_scale; default: steps."
    )
    hires_strength: fields.Strength | None = Field(
        default=None,
        description="How much the second pass of hires_scale may change; default 0.7.",
    )
    output_format: OutputFormat = Field(
        default=OutputFormat.PNG, description="The file format of the images."
    )
    quality: fields.Quality = Field(
        default=90, description="Of JPEG and WebP files; PNG is lossless."
    )
    audio_format: AudioFormat | None = Field(
        default=None,
        description="For models that generate sounds: the image as a wav, flac or mp3, too.",
    )
    audio_stereo: bool = Field(
        default=False, description="Stereo sound: left from the green channel, right from the blue."
    )
    priority: Priority = Field(
        default=Priority.NORMAL, description="Priority in the queue: high, normal or low."
    )
    deadline_s: fields.Deadline | None = Field(
        default=None,
        description="Seconds after which the job is dropped if it has not finished.",
    )


class InputImage(Record):
    """An input image as the worker reads it: a PNG stored under `key`. Sizes in pixels."""

    key: fields.InputKey
    width: fields.Side
    height: fields.Side


def parse_params(kind: type[P], values: Mapping[str, object]) -> P:
    """Return `values`, as read from JSON, as parameters of that kind.

    Raises `InvalidRequest` with the name of the first wrong field.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise first_invalid_request(error) from error

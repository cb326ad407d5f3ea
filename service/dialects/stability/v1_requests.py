"""The request bodies of version 1: the fields that are read, in Stability's own types."""

from typing import Annotated, Literal

from pydantic import Field

from protocol.record import Float, Int
from protocol.request import fields
from protocol.request.fields import WHOLE
from service.dialects.stability.fields import SEED, STYLE, File, Seed, StabilityRequest, StylePreset
from service.dialects.stability.text_prompts import MAX_PROMPTS, TextPrompt

MAX_SAMPLES = 10
IMAGE_STRENGTH, SCHEDULE_START = 0.35, 0.65

Share = Annotated[Float, Field(ge=0, le=1)]
Prompts = Annotated[tuple[TextPrompt, ...], Field(max_length=MAX_PROMPTS)]
ClipGuidance = Literal["FAST_BLUE", "FAST_GREEN", "NONE", "SIMPLE", "SLOW", "SLOWER", "SLOWEST"]


class V1Request(StabilityRequest):
    """The fields that all routes of version 1 have."""

    cfg_scale: fields.GuidanceScale | None = Field(
        default=None, description="The guidance scale. Default: the model's."
    )
    sampler: fields.Name | None = Field(
        default=None,
        description="DDIM, DDPM, K_DPMPP_2M, K_EULER_ANCESTRAL and so on, or a name of "
        "/v1/samplers. Default: the model's.",
        examples=["K_EULER"],
    )
    samples: Annotated[Int, Field(ge=1, le=MAX_SAMPLES), WHOLE] = Field(
        default=1, description="Number of images; more than one only as JSON."
    )
    seed: Seed = Field(default=0, description=f"Image i has seed + i. {SEED}")
    steps: fields.Steps | None = Field(
        default=None, description="Denoising steps. Default: the model's."
    )
    style_preset: StylePreset | None = Field(default=None, description=STYLE)
    clip_guidance_preset: ClipGuidance = Field(
        default="NONE", description="Accepted, without effect: there is no CLIP guidance here."
    )


class V1Generation(V1Request):
    """The fields of routes with prompts."""

    text_prompts: Annotated[Prompts, Field(min_length=1)] = Field(
        description="Prompts with weights; below 0 they say what the image should not show."
    )


class V1TextToImage(V1Generation):
    """A request for images of prompts."""

    width: fields.Side | None = Field(default=None, description="Default: the model's.")
    height: fields.Side | None = Field(default=None, description="Default: the model's.")


class V1ImageToImage(V1Generation):
    """A request for images like another."""

    init_image: File
    init_image_mode: Literal["IMAGE_STRENGTH", "STEP_SCHEDULE"] = Field(
        default="IMAGE_STRENGTH",
        description="Whether image_strength or step_schedule_start says how much the image "
        "changes.",
    )
    image_strength: Annotated[Float, Field(ge=0, lt=1)] = Field(
        default=IMAGE_STRENGTH, description="How much of the image stays."
    )
    step_schedule_start: Annotated[Float, Field(gt=0, le=1)] = Field(
        default=SCHEDULE_START, description="How much the image changes."
    )
    step_schedule_end: Annotated[Float, Field(ge=0, le=0)] = Field(
        default=0.0, description="0 only: the last steps are not skipped here."
    )


class V1Masking(V1Generation):
    """A request to generate a part of an image again."""

    init_image: File
    mask_source: Literal["MASK_IMAGE_WHITE", "MASK_IMAGE_BLACK", "INIT_IMAGE_ALPHA"] = Field(
        description="What is generated again: white or black of mask_image, or the transparent "
        "part of init_image. Grey, and half transparent, is generated in part."
    )
    mask_image: File | None = Field(default=None, description="A mask of the image's size.")


class V1Upscale(V1Request):
    """A request to enlarge an image."""

    image: File
    width: fields.Side | None = Field(
        default=None, description="Of the result; default: twice that of the image."
    )
    height: fields.Side | None = Field(default=None, description="In place of width.")
    text_prompts: Prompts = Field(
        default=(), description="None: what upscales here reads no prompts."
    )

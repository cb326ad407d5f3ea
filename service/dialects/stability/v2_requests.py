"""The request bodies of version 2: the fields that are read, in Stability's own types."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from protocol.record import Int, Text
from protocol.request import fields
from protocol.request.fields import WHOLE
from service.dialects.stability.fields import (
    MAX_STABILITY_PROMPT,
    SEED,
    STYLE,
    File,
    Seed,
    StabilityRequest,
    StylePreset,
)

GROW_MASK = 5
MAX_BORDER = 2000
CONSERVATIVE, CREATIVE = 0.35, 0.3

Prompt = Annotated[Text, Field(min_length=1, max_length=MAX_STABILITY_PROMPT)]
Border = Annotated[Int, Field(ge=0, le=MAX_BORDER), WHOLE]
GrowMask = Annotated[Int, Field(ge=0, le=fields.MAX_MASK_PIXELS), WHOLE]
PROMPT = "What the image shows."
NEGATIVE = "What the image should not show."
MASK = (
    "White is generated again, grey in part. Without a mask, the transparent part of the image is."
)
GROW = "Pixels by which the mask grows; half as many blur its edge."


def _file_format(value: object) -> object:
    return "jpeg" if value == "jpg" else value


class V2Request(StabilityRequest):
    """The fields that all routes of version 2 have."""

    model: fields.Name | None = Field(
        default=None,
        description="A model of /v1/engines/list. Default, and for the names of Stability's "
        "models: the default model.",
        examples=["sd3.5-large"],
    )
    seed: Seed = Field(default=0, description=SEED)
    output_format: (
        Annotated[Literal["jpeg", "png", "webp"], BeforeValidator(_file_format)] | None
    ) = Field(default=None, description="The file format of the image. Default: png.")
    style_preset: StylePreset | None = Field(default=None, description=STYLE)


class V2Generate(V2Request):
    """A request for an image of a prompt, or like another."""

    prompt: Prompt = Field(description=PROMPT, examples=["a slice of pizza"])
    negative_prompt: fields.Prompt = Field(default="", description=NEGATIVE)
    mode: Literal["text-to-image", "image-to-image"] | None = Field(
        default=None, description="Default: image-to-image if there is an image."
    )
    aspect_ratio: Text | None = Field(
        default=None,
        description="The model's best size of this aspect. Default: the model's size.",
        examples=["16:9"],
    )
    cfg_scale: fields.GuidanceScale | None = Field(
        default=None, description="The guidance scale. Default: the model's."
    )
    image: File | None = None
    strength: fields.Strength | None = Field(
        default=None, description="How much the image changes. Default: the model's."
    )


class V2Erase(V2Request):
    """A request to remove what a mask marks."""

    image: File
    mask: File | None = Field(default=None, description=MASK)
    grow_mask: GrowMask = Field(default=GROW_MASK, description=GROW)


class V2Inpaint(V2Erase):
    """A request to generate what a mask marks again."""

    prompt: Prompt = Field(description=PROMPT, examples=["a slice of pizza"])
    negative_prompt: fields.Prompt = Field(default="", description=NEGATIVE)


class V2Outpaint(V2Request):
    """A request to continue an image over its edges."""

    image: File
    left: Border = Field(default=0, description="Pixels to add.")
    right: Border = 0
    up: Border = 0
    down: Border = 0
    top: Border = Field(default=0, description="In place of up.")
    bottom: Border = Field(default=0, description="In place of down.")
    prompt: fields.Prompt = Field(default="", description=PROMPT)
    negative_prompt: fields.Prompt = Field(default="", description=NEGATIVE)
    creativity: fields.Share | None = Field(
        default=None, description="strength is 0.5 + creativity / 2. Default: the model's."
    )


class V2UpscaleFast(V2Request):
    """A request to enlarge an image four times."""

    model: fields.Name | None = Field(
        default=None,
        description="An upscaler: one that the operator has added (default: the first), or "
        "lanczos or nearest.",
        examples=["lanczos"],
    )
    image: File


class V2Upscale(V2Request):
    """A request to enlarge an image and to add details of a prompt."""

    image: File
    prompt: Prompt = Field(description=PROMPT, examples=["a slice of pizza"])
    negative_prompt: fields.Prompt = Field(default="", description=NEGATIVE)
    creativity: fields.Strength = Field(
        default=CONSERVATIVE, description="How much the enlarged image changes."
    )


class V2UpscaleCreative(V2Upscale):
    """The same as `V2Upscale`, with its own default."""

    creativity: fields.Strength = Field(
        default=CREATIVE, description="How much the enlarged image changes."
    )

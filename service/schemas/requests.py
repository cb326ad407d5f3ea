"""Request schemas of the generation routes, for JSON and for forms."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from protocol.record import Bool, Text
from protocol.request.classes import AskedBoxes, ClassRef
from protocol.request.client_record import ClientRecord
from protocol.request.fields import Name, Prompt
from protocol.request.generation_params import GenerationParams
from protocol.request.inpainting import MaskedContent
from protocol.request.prompts import PromptSyntax
from protocol.request.tasks import Task
from service.outbound import MAX_URL_LENGTH, URL
from service.schemas.controls import ControlFiles
from service.schemas.data_uri import decode_file

# Fields that may give the address of an image in place of the image, if the service takes any.
URL_FIELDS = {"image_url": "image", "mask_url": "mask", "depth_map_url": "depth_map"}
INPUT_FILES = ("image", "mask", "depth_map")  # of some tasks
UNSET = (None, "")  # null in JSON, an empty field in a form


class ResponseKind(StrEnum):
    """The form in which a response holds its images."""

    BASE64 = "base64"
    URL = "url"


def _file(value: object, info: ValidationInfo) -> bytes:
    return decode_file(info.field_name or "body", value)


def _file_schema(description: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "contentEncoding": "base64",
            "description": description,
        }
    )


ImageFile = Annotated[
    bytes,
    BeforeValidator(_file),
    _file_schema(
        "A PNG, JPEG, WebP or AVIF file, where the service reads them also HEIC, as base64 or data "
        "URI (in a form: the file itself). Without width and height its own size is used, which "
        "must be within the bounds of the model; with one of them it is resized in proportion, "
        "with both as resize_mode says. Where the service takes images by URL, `image_url` may be "
        "given instead, and `mask_url` instead of the mask."
    ),
]
MASK_DESCRIPTION = (
    "Sent like the image, of the image's size, or of the same aspect and resized to it: white is "
    "inpainted, black and transparent pixels are kept exactly. A mask that seems to mean something "
    "else gets a warning. Required unless mask_source is alpha."
)
MaskFile = Annotated[bytes, BeforeValidator(_file), _file_schema(MASK_DESCRIPTION)]
DEPTH_MAP_DESCRIPTION = (
    "The depth of the image, sent like it: the nearer the brighter. Required by models that are "
    "conditioned on it, and resized with the image."
)
DepthMapFile = Annotated[bytes, BeforeValidator(_file), _file_schema(DEPTH_MAP_DESCRIPTION)]
BorderedFile = Annotated[
    bytes,
    BeforeValidator(_file),
    _file_schema(
        "A PNG, JPEG, WebP or AVIF file, where the service reads them also HEIC, as base64 or data "
        "URI (in a form: the file itself). It keeps its size. `left`, `right`, `top` and `bottom`, "
        "or `width` and `height`, are how much is added. Where the service takes images by URL, "
        "`image_url` may be given instead."
    ),
]
LabelFile = Annotated[
    bytes,
    BeforeValidator(_file),
    _file_schema(
        "A PNG of one channel or with a palette, sent like any image; the value of each pixel is "
        "the number of its class."
    ),
]


def _webhook_url(url: str) -> str:
    if not URL.fullmatch(url):
        raise ValueError("an http or https URL without a user")
    return url


WebhookUrl = Annotated[
    Text,
    Field(max_length=MAX_URL_LENGTH, json_schema_extra={"pattern": f"^{URL.pattern}$"}),
    AfterValidator(_webhook_url),
]


class TaskRequest(GenerationParams):
    """The fields that every task has."""

    controls: ControlFiles | None = Field(
        default=None, description=GenerationParams.model_fields["controls"].description
    )
    response: ResponseKind = Field(
        default=ResponseKind.BASE64, description="Images inside the response, or URLs of them."
    )
    cancel_on_disconnect: Bool | None = Field(
        default=None,
        description="Cancel the job if the client disconnects, or ends its side of the connection, "
        "while it waits for the images. Default: what the operator has set, else false.",
    )
    webhook_url: WebhookUrl | None = Field(
        default=None,
        description="An http or https address that is called when the job has ended, with the job "
        "as JSON, signed as Standard Webhooks.",
        examples=["https://example.org/darkroom"],
    )

    @model_validator(mode="before")
    @classmethod
    def _without_empty_files(cls, values: object) -> object:
        """Leave out the files of other tasks if they are empty, as their other fields may be."""
        if not isinstance(values, Mapping):
            return values
        empty = {name for name in INPUT_FILES if values.get(name) in UNSET} - set(cls.model_fields)
        return {name: value for name, value in values.items() if name not in empty}


class TextToImageRequest(TaskRequest):
    """A text-to-image request."""

    prompt: Prompt = Field(description="What the image shows.", examples=["a slice of pizza"])


class ImageToImageRequest(TextToImageRequest):
    """An image-to-image request: an image and a prompt."""

    image: ImageFile
    depth_map: DepthMapFile | None = Field(default=None, description=DEPTH_MAP_DESCRIPTION)


class InpaintRequest(TaskRequest):
    """An inpainting request; the prompt is for models that take prompts."""

    image: ImageFile
    mask: MaskFile | None = Field(default=None, description=MASK_DESCRIPTION)


class OutpaintRequest(TaskRequest):
    """An outpainting request; the prompt is for models that take prompts."""

    image: BorderedFile
    # A border has no original content.
    masked_content: (
        Literal[MaskedContent.FILL, MaskedContent.NOISE, MaskedContent.NOTHING] | None
    ) = Field(default=None, description=GenerationParams.model_fields["masked_content"].description)


class UpscaleRequest(TaskRequest):
    """A request to upscale an image, by an upscaler or by a latent diffusion model."""

    image: ImageFile


class UnconditionalRequest(TaskRequest):
    """A request for an image like those the model was trained on."""


class ClassRequest(TaskRequest):
    """A request for an image of a class."""

    class_id: ClassRef = Field(
        description="A number below the model's `classes`, or one of its `class_names`."
    )


class LayoutRequest(TaskRequest):
    """A request for an image with an object of a class in each box."""

    boxes: AskedBoxes = Field(
        description="The objects: classes by number or name, boxes as shares of the sides."
    )


class SemanticRequest(TaskRequest):
    """A request for an image that follows a label map."""

    image: LabelFile


class ReadRequest(ClientRecord):
    """A request for the recipe in an image file."""

    image: Annotated[
        bytes,
        BeforeValidator(_file),
        _file_schema(
            "A PNG, JPEG, WebP or AVIF file as base64 or data URI (in a form: the file itself). "
            "Where the service takes images by URL, `image_url` may be given instead."
        ),
    ]


class TokensRequest(ClientRecord):
    """A prompt whose tokens are to be counted."""

    model: Name | None = Field(
        default=None, description="A name from /v1/models; default: the model that is served."
    )
    prompt: Prompt = Field(description="The prompt, or the negative prompt.")
    prompt_syntax: PromptSyntax = Field(
        default=PromptSyntax.WEIGHTS, description="As in the request that is to be sent."
    )


REQUESTS: dict[Task, type[TaskRequest]] = {
    Task.TXT2IMG: TextToImageRequest,
    Task.IMG2IMG: ImageToImageRequest,
    Task.INPAINT: InpaintRequest,
    Task.OUTPAINT: OutpaintRequest,
    Task.UPSCALE: UpscaleRequest,
    Task.UNCONDITIONAL: UnconditionalRequest,
    Task.CLASS: ClassRequest,
    Task.LAYOUT: LayoutRequest,
    Task.SEMANTIC: SemanticRequest,
}

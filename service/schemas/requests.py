"""Request schemas of the generation routes, for JSON and for forms."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema
from pydantic.json_schema import models_json_schema

from protocol.request.classes import AskedBoxes, ClassRef
from protocol.request.fields import Prompt
from protocol.request.generation_params import GenerationParams
from protocol.request.tasks import FIELDS_OF, TASK_FIELDS, Task
from service.schemas.controls import FILE_DESCRIPTION, FILE_FIELDS, ControlFiles
from service.schemas.data_uri import decode_file

REFERENCE = "#/components/schemas/{model}"  # `service.openapi` names components by their titles


class ResponseKind(StrEnum):
    """The form in which a response holds its images."""

    BASE64 = "base64"
    URL = "url"


def _file(value: object, info: ValidationInfo) -> bytes:
    return decode_file(info.field_name or "body", value)


def _file_schema(description: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "contentEncoding": "base64", "description": description}
    )


ImageFile = Annotated[
    bytes,
    BeforeValidator(_file),
    _file_schema(
        "A PNG, JPEG or WebP file as base64 or data URI (in a form: the file itself). "
        "Without width and height its own size is used, which must be one the model can generate; "
        "with them it is stretched to that. Where the service takes images by URL, "
        "`image_url` may be given instead, and `mask_url` instead of the mask."
    ),
]
MaskFile = Annotated[
    bytes,
    BeforeValidator(_file),
    _file_schema(
        "Sent like the image, of the image's size: white is inpainted, black and transparent "
        "pixels are kept exactly. A mask that seems to mean something else gets a warning."
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


class TaskRequest(GenerationParams):
    """The fields that every task has."""

    controls: ControlFiles | None = Field(
        default=None, description=GenerationParams.model_fields["controls"].description
    )
    response: ResponseKind = Field(
        default=ResponseKind.BASE64, description="Images inside the response, or URLs of them."
    )


class TextToImageRequest(TaskRequest, title="TextToImage"):
    """A text-to-image request."""

    prompt: Prompt = Field(description="What the image shows.", examples=["a slice of pizza"])


class ImageToImageRequest(TextToImageRequest, title="ImageToImage"):
    """An image-to-image request: an image and a prompt."""

    image: ImageFile


class InpaintRequest(TaskRequest, title="Inpaint"):
    """An inpainting request; the prompt is for models that take prompts."""

    image: ImageFile
    mask: MaskFile


class UpscaleRequest(TaskRequest, title="Upscale"):
    """A request to upscale an image of any size within the model's bounds."""

    image: ImageFile


class UnconditionalRequest(TaskRequest, title="Unconditional"):
    """A request for an image like those the model was trained on."""


class ClassRequest(TaskRequest, title="OfClass"):
    """A request for an image of a class."""

    class_id: ClassRef = Field(
        description="A number below the model's `classes`, or one of its `class_names`."
    )


class LayoutRequest(TaskRequest, title="Layout"):
    """A request for an image with an object of a class in each box."""

    boxes: AskedBoxes = Field(
        description="The objects: classes by number or name, boxes as shares of the sides."
    )


class SemanticRequest(TaskRequest, title="Semantic"):
    """A request for an image that follows a label map."""

    image: LabelFile


REQUESTS: dict[Task, type[TaskRequest]] = {
    Task.TXT2IMG: TextToImageRequest,
    Task.IMG2IMG: ImageToImageRequest,
    Task.INPAINT: InpaintRequest,
    Task.UPSCALE: UpscaleRequest,
    Task.UNCONDITIONAL: UnconditionalRequest,
    Task.CLASS: ClassRequest,
    Task.LAYOUT: LayoutRequest,
    Task.SEMANTIC: SemanticRequest,
}


def request_body(task: Task) -> dict[str, Any]:
    """Return the OpenAPI description of the request body of a task's route."""
    name = REQUESTS[task].__name__
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": REFERENCE.format(model=name)}},
                "multipart/form-data": {"schema": {"$ref": REFERENCE.format(model=f"{name}Form")}},
            },
        }
    }


def request_schemas() -> dict[str, Any]:
    """Return the JSON schemas that `request_body` refers to; each has the fields of its task."""
    _, document = models_json_schema(
        [(request, "validation") for request in REQUESTS.values()], ref_template=REFERENCE
    )
    schemas: dict[str, Any] = document["$defs"]
    for task, request in REQUESTS.items():
        schema = _of_task(task, schemas[request.__name__])
        schemas |= {request.__name__: schema, f"{request.__name__}Form": _form_of(schema)}
    return schemas


def _of_task(task: Task, schema: dict[str, Any]) -> dict[str, Any]:
    unused = TASK_FIELDS - FIELDS_OF[task]
    fields = {name: field for name, field in schema["properties"].items() if name not in unused}
    return {**schema, "properties": fields}


def _form_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a form: images are files, lists are JSON text, and nothing is null."""
    properties = {name: _form_field(field) for name, field in schema["properties"].items()}
    if "controls" in properties:
        for i, name in enumerate(FILE_FIELDS):
            description = FILE_DESCRIPTION.format(i=i)
            properties[name] = {"type": "string", "format": "binary", "description": description}
    return {**schema, "title": f"{schema['title']}Form", "properties": properties}


def _form_field(field: dict[str, Any]) -> dict[str, Any]:
    match field:
        case {"contentEncoding": "base64"}:
            return {"type": "string", "format": "binary", "description": field["description"]}
        case {"type": "array"}:
            return {"type": "string", "description": f"{field['description']} As JSON."}
        case {"anyOf": [kind, {"type": "null"}]}:
            return _form_field({**kind, "description": field["description"]})
        case _:
            return field

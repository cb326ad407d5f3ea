"""What the generation routes take: the fields of a request, as they come in JSON or in a form."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema
from pydantic.json_schema import models_json_schema

from protocol.request.classes import AskedBoxes, ClassRef
from protocol.request.fields import Prompt
from protocol.request.generation_params import GenerationParams
from protocol.request.tasks import FIELDS_OF, TASK_FIELDS, Task
from service.schemas.controls import FILES, OF_A_FILE, ControlFiles
from service.schemas.data_uri import upload_bytes

REFERENCE = "#/components/schemas/{model}"


class ResponseKind(StrEnum):
    """How pictures are handed over."""

    BASE64 = "base64"
    URL = "url"


def _file(value: object, info: ValidationInfo) -> bytes:
    return upload_bytes(info.field_name or "body", value)


def _file_schema(description: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "contentEncoding": "base64", "description": description}
    )


ImageFile = Annotated[
    bytes,
    BeforeValidator(_file),
    _file_schema(
        "A PNG, JPEG or WebP file as base64 or data URI (in a form: the file itself). "
        "Without width and height its own size is used, which must be one the model can draw; "
        "with them it is stretched to that. Where the service takes images by address, "
        "`image_url` may stand in its place, as `mask_url` in the mask's."
    ),
]
MaskFile = Annotated[
    bytes,
    BeforeValidator(_file),
    _file_schema("Sent like the image, of the image's size: white is repainted, black is kept."),
]


LabelFile = Annotated[
    bytes,
    BeforeValidator(_file),
    _file_schema(
        "A PNG of one channel or with a palette, sent like any image; the value of each pixel is "
        "the number of the class to be there."
    ),
]


class Body(GenerationParams):
    """What is asked of every task."""

    controls: ControlFiles | None = Field(
        default=None, description=GenerationParams.model_fields["controls"].description
    )
    response: ResponseKind = Field(
        default=ResponseKind.BASE64, description="Pictures inside the answer, or URLs of them."
    )


class TextToImage(Body):
    """A picture from words."""

    prompt: Prompt = Field(description="What the picture shows.", examples=["a slice of pizza"])


class ImageToImage(TextToImage):
    """A picture from a picture and words."""

    image: ImageFile


class Inpaint(Body):
    """A picture with a part of it painted anew; the prompt is for models that read words."""

    image: ImageFile
    mask: MaskFile


class Upscale(Body):
    """A larger picture from a small one, of any size within the model's bounds."""

    image: ImageFile


class Unconditional(Body):
    """A picture of what the model knows."""


class OfClass(Body):
    """A picture of a class."""

    class_id: ClassRef = Field(
        description="A number below the model's `classes`, or one of its `class_names`."
    )


class Layout(Body):
    """A picture with things where boxes say."""

    boxes: AskedBoxes = Field(
        description="What is where: classes by number or name, boxes as shares of the sides."
    )


class Semantic(Body):
    """A picture from a map of classes."""

    image: LabelFile


BODIES: dict[Task, type[Body]] = {
    Task.TXT2IMG: TextToImage,
    Task.IMG2IMG: ImageToImage,
    Task.INPAINT: Inpaint,
    Task.UPSCALE: Upscale,
    Task.UNCONDITIONAL: Unconditional,
    Task.CLASS: OfClass,
    Task.LAYOUT: Layout,
    Task.SEMANTIC: Semantic,
}


def request_body(task: Task) -> dict[str, Any]:
    """The OpenAPI description of what the route of `task` takes."""
    name = BODIES[task].__name__
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": REFERENCE.format(model=name)}},
                "multipart/form-data": {"schema": {"$ref": REFERENCE.format(model=f"{name}Form")}},
            },
        }
    }


def body_schemas() -> dict[str, Any]:
    """The JSON schemas that `request_body` refers to, by name; each with its task's fields only."""
    _, document = models_json_schema(
        [(body, "validation") for body in BODIES.values()], ref_template=REFERENCE
    )
    schemas: dict[str, Any] = document["$defs"]
    for task, body in BODIES.items():
        schema = _of_task(task, schemas[body.__name__])
        schemas |= {body.__name__: schema, f"{body.__name__}Form": _form_of(schema)}
    return schemas


def _of_task(task: Task, schema: dict[str, Any]) -> dict[str, Any]:
    foreign = TASK_FIELDS - FIELDS_OF[task]
    fields = {name: field for name, field in schema["properties"].items() if name not in foreign}
    return {**schema, "properties": fields}


def _form_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The same fields as a form: images are files there, lists are JSON, and there is no null."""
    properties = {name: _form_field(field) for name, field in schema["properties"].items()}
    if "controls" in properties:
        for i, name in enumerate(FILES):
            told = {"type": "string", "format": "binary", "description": OF_A_FILE.format(i=i)}
            properties[name] = told
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

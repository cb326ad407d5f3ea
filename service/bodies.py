"""What the generation routes take: the fields of a request, as they come in JSON or in a form."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema
from pydantic.json_schema import models_json_schema

from protocol.drafts import Draft
from protocol.request import Task
from service.uploads import upload_bytes

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


class TextToImage(Draft):
    """A picture from words."""

    response: ResponseKind = Field(
        default=ResponseKind.BASE64, description="Pictures inside the answer, or URLs of them."
    )


class ImageToImage(TextToImage):
    """A picture from a picture and words."""

    image: ImageFile


class Inpaint(ImageToImage):
    """A picture with a part of it painted anew."""

    mask: MaskFile


BODIES: dict[Task, type[TextToImage]] = {
    Task.TXT2IMG: TextToImage,
    Task.IMG2IMG: ImageToImage,
    Task.INPAINT: Inpaint,
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
    """The JSON schemas that `request_body` refers to, by name."""
    _, document = models_json_schema(
        [(body, "validation") for body in BODIES.values()], ref_template=REFERENCE
    )
    schemas: dict[str, Any] = document["$defs"]
    forms = {f"{body.__name__}Form": _form_of(schemas[body.__name__]) for body in BODIES.values()}
    return {**schemas, **forms}


def _form_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The same fields as a form: images are files there, and there is no null."""
    properties = {name: _form_field(field) for name, field in schema["properties"].items()}
    return {**schema, "title": f"{schema['title']}Form", "properties": properties}


def _form_field(field: dict[str, Any]) -> dict[str, Any]:
    match field:
        case {"contentEncoding": "base64"}:
            return {"type": "string", "format": "binary", "description": field["description"]}
        case {"anyOf": [kind, {"type": "null"}]}:
            return {**kind, "description": field["description"]}
        case _:
            return field

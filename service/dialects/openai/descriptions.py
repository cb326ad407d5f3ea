"""The bodies and answers of OpenAI's routes in the OpenAPI description."""

import json
from collections.abc import Iterable, Mapping

from protocol.errors import (
    DarkroomError,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    JobCancelled,
    PayloadTooLarge,
    QueueFull,
    ServiceStopping,
    TooSlow,
    Unauthorized,
    UnknownHost,
    UnsupportedMediaType,
)
from protocol.request.tasks import Task
from service.dialects.descriptions import Schema, diffusion_properties, error_responses
from service.dialects.openai.answers import ImagesResponse
from service.dialects.openai.errors import OPENAI_ERRORS, OpenAIErrorResponse
from service.dialects.openai.requests import (
    NO_EFFECT,
    EditsRequest,
    GenerationsRequest,
    ImagesRequest,
    VariationsRequest,
)
from service.dialects.openai.uploads import IMAGE, MARKUP, MASK, MAX_IMAGES
from service.schemas.body_parser import FORM_TYPE, JSON_TYPE
from service.schemas.examples import IMAGE as IMAGE_BASE64
from service.schemas.examples import JOB
from service.schemas.request_bodies import BINARY, REFERENCE, parameters, without_defaults

IMAGES_EXAMPLE: Schema = {
    "created": 1_800_000_000,
    "data": [{"b64_json": IMAGE_BASE64, "seed": 7}],
    "background": "opaque",
    "output_format": "png",
    "size": "64x64",
    "usage": {
        "input_tokens": 4,
        "output_tokens": 0,
        "total_tokens": 4,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 4},
        "output_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    },
}
COMPLETED = "image_generation.completed"
COMPLETED_EXAMPLE = {
    "type": COMPLETED,
    "b64_json": IMAGE_BASE64,
    "created_at": 1_800_000_000,
    "size": "64x64",
    "quality": "auto",
    "background": "auto",
    "output_format": "png",
    "usage": IMAGES_EXAMPLE["usage"],
}
STREAM_EXAMPLE = f"event: {COMPLETED}\ndata: {json.dumps(COMPLETED_EXAMPLE)}\n\n"
# Fields of OpenAI's API that change nothing here.
IGNORED = ("moderation", "style", "user", "safety_identifier", "complexity")
IGNORED_BY_EDITS = (*IGNORED, "input_fidelity")
FILE = {**BINARY, "description": "A PNG, JPEG, WebP or AVIF file."}
FILES: dict[str, Schema] = {
    IMAGE: {
        "anyOf": [FILE, {"type": "array", "items": FILE, "maxItems": MAX_IMAGES}],
        "description": "The image, or several, also as `image[]`.",
    },
    MASK: {
        **BINARY,
        "description": "A PNG of the image's size: what is fully transparent is generated anew.",
    },
    MARKUP: {**BINARY, "description": "A transparent PNG that is put over the first image."},
}
LINK: Schema = {"type": "string", "minLength": 1, "description": "A data URI, or an address."}
LINKED: Schema = {"type": "object", "properties": {"image_url": LINK}, "required": ["image_url"]}
LINKS: dict[str, Schema] = {
    "images": {"type": "array", "items": LINKED, "minItems": 1, "maxItems": MAX_IMAGES},
    MASK: LINKED,
    MARKUP: LINKED,
}
# An error of each status, as an example.
ERRORS: tuple[DarkroomError, ...] = (
    InvalidRequest("size", "1000x1000", "auto, or 512x512", "size-not-possible"),
    Unauthorized(),
    Forbidden("generate"),
    InvalidRequest("model", "nope", "one of emoji", "unknown-model"),
    TooSlow(30, 16_000, 10),
    JobCancelled(JOB),
    PayloadTooLarge("body", "over 33554432 bytes", "at most 33554432 bytes"),
    UnsupportedMediaType("Content-Encoding", "gzip", "left out"),
    UnknownHost("Host", "example.org", "a name of this service"),
    QueueFull(100, 100, 12.5),
    DarkroomError(),
    ServiceStopping(),
    DeadlineExceeded(300),
)
CAUSES_HERE = {
    400: "A field is missing or out of bounds, or the body cannot be read.",
    404: "There is no such model.",
}


def _responses() -> dict[int | str, Schema]:
    images: Schema = {
        "model": ImagesResponse,
        "description": "The images; with `stream`, server-sent events in OpenAI's form.",
        "content": {
            JSON_TYPE: {"example": IMAGES_EXAMPLE},
            "text/event-stream": {"schema": {"type": "string"}, "example": STREAM_EXAMPLE},
        },
    }
    errors = error_responses(OPENAI_ERRORS, OpenAIErrorResponse, ERRORS, CAUSES_HERE)
    return {200: images, **errors}


def _schema(
    kind: type[ImagesRequest], task: Task, files: Mapping[str, Schema], ignored: Iterable[str]
) -> Schema:
    """Return the schema of a body: OpenAI's fields, images, and those of latent diffusion."""
    schema = without_defaults(kind.model_json_schema(ref_template=REFERENCE))
    properties = {
        **diffusion_properties(task),
        **{name: {"description": NO_EFFECT} for name in ignored},
        **schema["properties"],
        **files,
    }
    required = [*schema.get("required", ()), *([next(iter(files))] if files else [])]
    return {"type": "object", "properties": properties, "required": required}


def _body(content: dict[str, Schema]) -> Schema:
    body = {"requestBody": {"required": True, "content": content}}
    return parameters("IdempotencyKey") | body


def _upload_body(kind: type[ImagesRequest], example: Schema) -> Schema:
    form, links = (_schema(kind, Task.INPAINT, files, IGNORED_BY_EDITS) for files in (FILES, LINKS))
    return _body({FORM_TYPE: {"schema": form}, JSON_TYPE: {"schema": links, "example": example}})


LINK_EXAMPLE = {"images": [{"image_url": f"data:image/png;base64,{IMAGE_BASE64}"}], "seed": 7}
IMAGES_RESPONSES = _responses()
GENERATIONS_BODY = _body(
    {
        JSON_TYPE: {
            "schema": _schema(GenerationsRequest, Task.TXT2IMG, {}, IGNORED),
            "example": {"prompt": "a slice of pizza", "size": "auto", "seed": 7},
        }
    }
)
EDITS_BODY = _upload_body(EditsRequest, {"prompt": "a slice of pizza", **LINK_EXAMPLE})
VARIATIONS_BODY = _upload_body(VariationsRequest, LINK_EXAMPLE)

"""The bodies and answers of Hugging Face's routes in the OpenAPI description."""

from http import HTTPStatus

from protocol.errors import (
    DarkroomError,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    JobCancelled,
    MalformedBody,
    NotAcceptable,
    NotReady,
    PayloadTooLarge,
    QueueFull,
    TooSlow,
    Unauthorized,
    UnknownHost,
    UnsupportedMediaType,
)
from protocol.request.object_keys import OutputFormat
from protocol.request.tasks import Task
from service.dialects.descriptions import Schema, diffusion_properties, error_responses
from service.dialects.huggingface.errors import (
    HUGGINGFACE_ERRORS,
    LOADING_ERRORS,
    HuggingFaceError,
)
from service.dialects.huggingface.requests import WAIT_HEADER
from service.schemas.body_parser import JSON_TYPE
from service.schemas.examples import JOB
from service.schemas.file_responses import OF_ANSWERS
from service.schemas.request_bodies import BINARY, parameters

# An error of each status, as an example.
ERRORS: tuple[DarkroomError, ...] = (
    MalformedBody("body", "wrong at line 1, column 12", "JSON", "invalid-json"),
    Unauthorized(),
    Forbidden("generate"),
    InvalidRequest("model", "nope", "one of emoji", "unknown-model"),
    NotAcceptable("Accept", "image/gif", "one of image/png, image/jpeg"),
    TooSlow(30, 16_000, 10),
    JobCancelled(JOB),
    PayloadTooLarge("body", "over 33554432 bytes", "at most 33554432 bytes"),
    UnsupportedMediaType("Content-Encoding", "gzip", "left out"),
    UnknownHost("Host", "example.org", "a name of this service"),
    InvalidRequest("parameters.width", 500, "a multiple of 8", "size-not-a-multiple"),
    QueueFull(100, 100, 12.5),
    DarkroomError(),
    DeadlineExceeded(300),
)
LOADING = (NotReady("no worker has published a model yet"),)
CAUSES_HERE = {
    404: "There is no such model.",
    500: "The images could not be generated.",
    503: "No model is loaded yet.",
}
RESPONSES: dict[int | str, Schema] = {
    HTTPStatus.OK.value: {
        "description": "The file of the image.",
        "headers": OF_ANSWERS,
        "content": {kind.content_type: {"schema": BINARY} for kind in OutputFormat},
    },
    **error_responses(HUGGINGFACE_ERRORS, HuggingFaceError, ERRORS, CAUSES_HERE),
    **error_responses(LOADING_ERRORS, HuggingFaceError, LOADING, CAUSES_HERE),
}
_SCHEMA: Schema = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {
            "type": "string",
            "description": "A prompt; or an image in base64, if `parameters` has a prompt, a mask "
            "or a `target_size`, or the text is a PNG, JPEG, WebP or AVIF file.",
        },
        "parameters": {
            "type": "object",
            "properties": {
                **diffusion_properties(Task.IMG2IMG),
                "prompt": {"type": "string", "description": "The prompt of a request with image."},
                "target_size": {
                    "type": "object",
                    "description": "The size of an image made of an image, as width and height.",
                },
                "mask": {
                    "type": "string",
                    "description": "An image in base64: what is white in it is generated anew.",
                },
            },
        },
        "options": {
            "type": "object",
            "properties": {
                "wait_for_model": {
                    "type": "boolean",
                    "description": f"Wait until a model is loaded, as with `{WAIT_HEADER}: true`.",
                }
            },
        },
    },
}
_EXAMPLE = {"inputs": "a slice of pizza", "parameters": {"num_inference_steps": 20, "seed": 7}}
BODY = parameters("IdempotencyKey") | {
    "requestBody": {
        "required": True,
        "content": {
            JSON_TYPE: {"schema": _SCHEMA, "example": _EXAMPLE},
            "application/octet-stream": {"schema": BINARY},
        },
    }
}

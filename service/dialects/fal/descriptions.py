"""The bodies and answers of fal's routes in the OpenAPI description."""

import json

from protocol.errors import (
    DarkroomError,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    JobDeleted,
    MalformedBody,
    PayloadTooLarge,
    QueueFull,
    ServiceStopping,
    TooSlow,
    Unauthorized,
    UnknownHost,
    UnknownJob,
    UnsupportedMediaType,
)
from protocol.request.tasks import Task
from service.dialects.descriptions import Schema, diffusion_properties, error_responses
from service.dialects.fal.answers import FalCancelled
from service.dialects.fal.errors import FAL_ERRORS, FalError
from service.dialects.fal.sizes import IMAGE_SIZE, NAMED
from service.dialects.fal.translation import IMAGE, IMAGES, MASK, PRIORITY_HEADER
from service.schemas.body_parser import JSON_TYPE
from service.schemas.examples import JOB
from service.schemas.request_bodies import parameters

# An error of each status, as an example.
OF_CLIENT: tuple[DarkroomError, ...] = (
    Unauthorized(),
    Forbidden("generate"),
    UnknownJob(JOB),
    UnknownHost("Host", "example.org", "a name of this service"),
    InvalidRequest("num_images", 99, "from 1 to 64", "out-of-range"),
    DarkroomError(),
    ServiceStopping(),
)
OF_BODY: tuple[DarkroomError, ...] = (
    MalformedBody("body", "wrong at line 1, column 12", "JSON", "invalid-json"),
    InvalidRequest("model", "nope", "one of emoji", "unknown-model"),
    TooSlow(30, 16_000, 10),
    PayloadTooLarge("body", "over 33554432 bytes", "at most 33554432 bytes"),
    UnsupportedMediaType("Content-Encoding", "gzip", "left out"),
    QueueFull(100, 100, 12.5),
)
OF_RESULT: tuple[DarkroomError, ...] = (JobDeleted(JOB), DeadlineExceeded(300))
CAUSES_HERE = {
    400: "The body cannot be read, or the request was cancelled or has not ended.",
    404: "There is no such model, or no such request of this key.",
}
Responses = dict[int | str, Schema]


def _responses(*errors: DarkroomError) -> Responses:
    return error_responses(FAL_ERRORS, FalError, errors, CAUSES_HERE)


RESULT_EXAMPLE: Schema = {
    "images": [
        {
            "url": f"https://example.org/v1/jobs/{JOB}/images/0.png",
            "width": 64,
            "height": 64,
            "content_type": "image/png",
            "file_name": "darkroom-7.png",
            "file_size": 77,
        }
    ],
    "seed": 7,
    "prompt": "a slice of pizza",
    "has_nsfw_concepts": [False],
    "timings": {"inference": 2.1},
}
_REQUEST = f"https://example.org/fal/queue/darkroom/tiny/requests/{JOB}"
QUEUED_EXAMPLE: Schema = {
    "request_id": JOB,
    "response_url": _REQUEST,
    "status_url": f"{_REQUEST}/status",
    "cancel_url": f"{_REQUEST}/cancel",
    "status": "IN_QUEUE",
    "queue_position": 0,
}
STATUS_EXAMPLE: Schema = {
    **{name: QUEUED_EXAMPLE[name] for name in QUEUED_EXAMPLE if name.endswith(("url", "id"))},
    "status": "IN_PROGRESS",
    "logs": [{"message": " 40%|████████            | 12/30", "timestamp": "2026-01-31T12:00:00Z"}],
}
CANCELLED_EXAMPLE = {"status": "CANCELLATION_REQUESTED", "detail": "Request is being cancelled"}


def _json(description: str, example: Schema) -> Schema:
    return {"description": description, "content": {JSON_TYPE: {"example": example}}}


RESULT: Responses = {
    200: _json("The images.", RESULT_EXAMPLE),
    **_responses(*OF_CLIENT, *OF_BODY, *OF_RESULT),
}
QUEUED: Responses = {
    200: _json("The addresses of the request.", QUEUED_EXAMPLE),
    **_responses(*OF_CLIENT, *OF_BODY),
}
OF_REQUEST: Responses = {
    200: _json("The state of the request.", STATUS_EXAMPLE),
    **_responses(*OF_CLIENT),
}
CANCELLED: Responses = {
    202: _json("The request is cancelled.", CANCELLED_EXAMPLE),
    **_responses(*OF_CLIENT),
    400: {"model": FalCancelled, "description": "The request has ended already."},
}
STREAM: Responses = {
    200: {
        "description": "Server-sent events with JSON, the last of them the result or an error.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": f"data: {json.dumps(RESULT_EXAMPLE)}\n\n",
            }
        },
    },
    **_responses(*OF_CLIENT, *OF_BODY),
}
_ANY: Schema = {"schema": {"type": "object"}}
PROXIED: Responses = {
    200: {
        "description": "The answer of the route that does what the address at fal does.",
        "content": {JSON_TYPE: _ANY, "text/event-stream": {"schema": {"type": "string"}}},
    },
    202: {"description": "The request is cancelled.", "content": {JSON_TYPE: _ANY}},
    **_responses(*OF_CLIENT, *OF_BODY, *OF_RESULT),
    400: {"model": FalError | FalCancelled, "description": CAUSES_HERE[400]},
    405: {"model": FalError, "description": "The address at fal has no such method."},
}
_LINK: Schema = {"type": "string", "minLength": 1}
_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        **diffusion_properties(Task.INPAINT),
        "prompt": {"type": "string", "description": "What the image shows."},
        IMAGE_SIZE: {
            "anyOf": [
                {"type": "string", "enum": list(NAMED)},
                {
                    "type": "object",
                    "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}},
                    "required": ["width", "height"],
                },
            ],
            "description": "A name means the model's best size of that aspect.",
        },
        "num_images": {"type": "integer", "description": "Number of images."},
        IMAGE: {**_LINK, "description": "The address or data URI of the image to change."},
        IMAGES: {"type": "array", "items": _LINK, "maxItems": 1, "description": f"As {IMAGE}."},
        MASK: {
            **_LINK,
            "description": "The address or data URI of a mask: white is generated anew.",
        },
        "output_format": {"type": "string", "description": "png, jpeg, webp or avif."},
        "sync_mode": {"type": "boolean", "description": "Return images as data URIs."},
        "enable_safety_checker": {
            "type": "boolean",
            "description": "Accepted, without effect: the operator decides.",
        },
    },
}
_PRIORITY = {
    "name": PRIORITY_HEADER,
    "in": "header",
    "description": "normal or low.",
    "schema": {"type": "string", "examples": ["normal"]},
}
BODY: Schema = {
    "parameters": [*parameters("IdempotencyKey")["parameters"], _PRIORITY],
    "requestBody": {
        "required": True,
        "content": {
            JSON_TYPE: {
                "schema": _SCHEMA,
                "example": {"prompt": "a slice of pizza", "num_inference_steps": 20, "seed": 7},
            }
        },
    },
}
PROXY: Schema = {
    "parameters": [
        {
            "name": "x-fal-target-url",
            "in": "header",
            "required": True,
            "description": "The address at fal, which is mapped to a route of this service.",
            "schema": {
                "type": "string",
                "examples": ["https://queue.fal.run/darkroom/tiny/requests/{id}/status"],
            },
        }
    ]
}

"""The bodies and answers of this dialect in the OpenAPI description."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from protocol.errors import (
    DarkroomError,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    JobCancelled,
    JobDeleted,
    PayloadTooLarge,
    QueueFull,
    ServiceStopping,
    TooSlow,
    Unauthorized,
    UnknownHost,
    UnknownJob,
)
from protocol.request.object_keys import OutputFormat
from service.dialects.stability.answers import (
    FINISH_REASON_HEADER,
    SEED_HEADER,
    V1Images,
    V2Image,
    V2InProgress,
    V2Started,
)
from service.dialects.stability.bodies import PROMPTS
from service.dialects.stability.errors import (
    V1Error,
    V2Error,
    v1_error,
    v1_status,
    v2_error,
    v2_status,
)
from service.dialects.stability.examples import ARTIFACTS, IN_PROGRESS, STARTED, V2_IMAGE
from service.dialects.stability.fields import StabilityRequest
from service.schemas.body_parser import FORM_TYPE, JSON_TYPE
from service.schemas.examples import JOB
from service.schemas.file_responses import DESCRIPTIONS
from service.schemas.problem import Problem
from service.schemas.problem_responses import CAUSES, HEADERS
from service.schemas.problems import problem_of
from service.schemas.request_bodies import BINARY, parameters, without_defaults

Schema = dict[str, Any]
Responses = dict[int | str, Schema]

# An error of each status, as an example.
READ_ERRORS: tuple[DarkroomError, ...] = (
    Unauthorized(),
    Forbidden("read"),
    UnknownHost("Host", "example.org", "a name of this service"),
    DarkroomError(),
    ServiceStopping(),
)
RESULT_ERRORS = (
    *READ_ERRORS,
    InvalidRequest("Accept", "image/gif", "application/json or image/png", "not-acceptable"),
    UnknownJob(JOB),
    JobCancelled(JOB),
    JobDeleted(JOB),
)
WRITE_ERRORS = (
    *READ_ERRORS,
    InvalidRequest("steps", 500, "at most 150", "too-many-steps"),
    TooSlow(30, 16_000, 10),
    PayloadTooLarge("body", "over 33554432 bytes", "at most 33554432 bytes"),
    QueueFull(100, 100, 12.5),
)
WAIT_ERRORS = (*WRITE_ERRORS, JobCancelled(JOB), JobDeleted(JOB), DeadlineExceeded(300))
UNKNOWN_ENGINE = InvalidRequest("engine_id", "nope", "one of emoji", "unknown-model")
CAUSES_HERE = {
    400: "A field or header field is missing or wrong, or the body cannot be read.",
    404: "There is no such engine, or no such generation that this key may see.",
}
FILE_HEADERS: Schema = {
    SEED_HEADER: {
        "description": "The seed of the image, if the answer is one.",
        "schema": {"type": "integer"},
    },
    FINISH_REASON_HEADER: {
        "description": "How the image ended, if the answer is one.",
        "schema": {"type": "string", "enum": ["SUCCESS", "CONTENT_FILTERED"]},
    },
    **DESCRIPTIONS,
}
FILES: Schema = {kind.content_type: {"schema": BINARY} for kind in OutputFormat}


def body(kind: type[StabilityRequest], example: Mapping[str, object]) -> Schema:
    """Return the description of a request body, as JSON and as a form."""
    schema = without_defaults(kind.model_json_schema(ref_template="{model}"))
    inner = schema.pop("$defs", {})
    properties = {name: _inlined(field, inner) for name, field in schema["properties"].items()}
    schema = {**schema, "properties": properties}
    content = {
        JSON_TYPE: {"schema": schema, "example": example},
        FORM_TYPE: {"schema": _form_of(schema)},
    }
    return parameters("IdempotencyKey") | {"requestBody": {"required": True, "content": content}}


def _inlined(field: Any, inner: Schema) -> Any:
    """Return the schema of a field with the schemas that it refers to in it."""
    match field:
        case {"$ref": name}:
            return _inlined(inner[name], inner)
        case dict():
            return {key: _inlined(value, inner) for key, value in field.items()}
        case list():
            return [_inlined(value, inner) for value in field]
        case _:
            return field


def _form_of(schema: Schema) -> Schema:
    """Return the schema of a form: images are files, prompts are parts of their own."""
    properties = {name: _form_field(field) for name, field in schema["properties"].items()}
    required = [name for name in schema.get("required", ()) if name != PROMPTS]
    if properties.pop(PROMPTS, None):
        properties |= {
            f"{PROMPTS}[0][text]": {"type": "string", "description": "And so on from 0."},
            f"{PROMPTS}[0][weight]": {"type": "number"},
        }
    return {**schema, "properties": properties, "required": required}


def _form_field(field: Schema) -> Schema:
    kinds = field.get("anyOf", [field])
    if any("contentEncoding" in kind for kind in kinds):
        return {**BINARY, "description": field.get("description", "The file.")}
    others = [kind for kind in kinds if kind != {"type": "null"}]
    return {**field, "anyOf": others} if "anyOf" in field else field


def _errors(
    errors: tuple[DarkroomError, ...],
    model: type[BaseModel],
    status_of: Callable[[Problem], int],
    form: Callable[[Problem], BaseModel],
) -> Responses:
    problems = {status_of(problem): problem for problem in map(problem_of, errors)}
    return {
        status: {
            "model": model,
            "description": CAUSES_HERE.get(status, CAUSES[status]),
            "headers": HEADERS.get(status, {}),
            "content": {JSON_TYPE: {"example": form(problems[status]).model_dump()}},
        }
        for status in sorted(problems)
    }


def _v1(errors: tuple[DarkroomError, ...]) -> Responses:
    return _errors(errors, V1Error, v1_status, v1_error)


def _v2(errors: tuple[DarkroomError, ...]) -> Responses:
    return _errors(errors, V2Error, v2_status, v2_error)


def _images(model: type[BaseModel], example: Schema, description: str) -> Schema:
    content = {JSON_TYPE: {"example": example}, **FILES}
    return {
        "model": model,
        "description": description,
        "headers": FILE_HEADERS,
        "content": content,
    }


def _json(model: type[BaseModel], example: Schema, description: str) -> Schema:
    return {
        "model": model,
        "description": description,
        "content": {JSON_TYPE: {"example": example}},
    }


V2_ANSWER = _images(V2Image, V2_IMAGE, "The image; as JSON if `Accept` names application/json.")
READ_RESPONSES = _v1(READ_ERRORS)
V1_RESPONSES: Responses = {
    200: _images(V1Images, ARTIFACTS, "The images; the file if `Accept` names a type of image."),
    **_v1((*WAIT_ERRORS, UNKNOWN_ENGINE)),
}
V2_RESPONSES: Responses = {200: V2_ANSWER, **_v2(WAIT_ERRORS)}
STARTED_RESPONSES: Responses = {
    200: _json(V2Started, STARTED, "The id of the result."),
    **_v2(WRITE_ERRORS),
}
RESULT_RESPONSES: Responses = {
    200: V2_ANSWER,
    202: _json(V2InProgress, IN_PROGRESS, "The job has not ended."),
    **_v2(RESULT_ERRORS),
}

"""Errors in Stability's forms: `{"id", "name", "message"}`, in version 2 `errors`, a list."""

from http import HTTPStatus

from pydantic import BaseModel, Field, JsonValue

from service.schemas.error_format import ErrorFormat
from service.schemas.problem import Problem

# Stability's names of our problems, and of statuses.
NAMES = {
    "several-images-in-one-file": "invalid_samples",
    "size-not-a-multiple": "invalid_height_or_width",
    "size-out-of-range": "invalid_height_or_width",
    "too-many-pixels": "invalid_pixel_count",
    "image-size": "invalid_pixel_count",
    "image-too-large": "invalid_pixel_count",
    "mask-size": "invalid_image_dimensions",
    "mask-missing": "invalid_mask_image",
    "broken-image": "invalid_mime_type",
    "empty-file": "invalid_file_size",
}
NAMES_OF_STATUSES: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "permission_denied",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "payload_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_exceeded",
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
}
# Stability says a wrong value, and a wrong header field, by this status.
BAD_REQUESTS = (
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)
UNKNOWN_ENGINE = "unknown-model"


class V1Error(BaseModel):
    """An error of version 1."""

    id: str = Field(description="The id of the request.")
    name: str = Field(description="A short name.", examples=["bad_request"])
    message: str


class V2Error(BaseModel):
    """An error of version 2."""

    id: str = Field(description="The id of the request.")
    name: str = Field(description="A short name.", examples=["bad_request"])
    errors: list[str]


def v1_error(problem: Problem) -> V1Error:
    """Return a problem in the form of version 1."""
    name, request_id = _name(problem, v1_status(problem)), problem.request_id or ""
    return V1Error(id=request_id, name=name, message=problem.detail)


def v2_error(problem: Problem) -> V2Error:
    """Return a problem in the form of version 2."""
    name, request_id = _name(problem, v2_status(problem)), problem.request_id or ""
    return V2Error(id=request_id, name=name, errors=[problem.detail])


def v1_status(problem: Problem) -> int:
    """Return the status of a problem; an engine is a part of the path, so it is not found."""
    return HTTPStatus.NOT_FOUND if problem.kind == UNKNOWN_ENGINE else v2_status(problem)


def v2_status(problem: Problem) -> int:
    """Return the status of a problem."""
    return HTTPStatus.BAD_REQUEST if problem.status in BAD_REQUESTS else problem.status


def _name(problem: Problem, status: int) -> str:
    by_status = NAMES_OF_STATUSES.get(status, problem.kind.replace("-", "_"))
    return NAMES.get(problem.kind, by_status) if status == HTTPStatus.BAD_REQUEST else by_status


def _v1_body(problem: Problem) -> JsonValue:
    body: JsonValue = v1_error(problem).model_dump()
    return body


def _v2_body(problem: Problem) -> JsonValue:
    body: JsonValue = v2_error(problem).model_dump()
    return body


V1_ERRORS = ErrorFormat(_v1_body, v1_status)
V2_ERRORS = ErrorFormat(_v2_body, v2_status)

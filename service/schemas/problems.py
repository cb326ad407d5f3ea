"""The one table from error to HTTP status, and the form of every error: RFC 9457 problem+json.

Texts come from our own errors only; a fault not foreseen says no more than its request id.
"""

import logging
import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, JsonValue
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from protocol.errors import (
    ClientQueueFull,
    DarkroomError,
    DeadlineExceeded,
    Forbidden,
    ForeignOrigin,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    MalformedBody,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    QueueFull,
    QueueUnavailable,
    RateLimited,
    StoreUnavailable,
    TooManyJobs,
    TooSlow,
    Unauthorized,
    UnknownHost,
    UnknownImage,
    UnknownJob,
    UnsupportedMediaType,
    WouldMissDeadline,
)
from protocol.request.validation_errors import to_invalid_request

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:darkroom:problem:"
RETRY_AFTER_S = 5
CLIENT_LEFT = 499

# Error -> status and the last part of the problem's type, which an InvalidRequest brings along.
TABLE: dict[type[DarkroomError], tuple[HTTPStatus, str]] = {
    MalformedBody: (HTTPStatus.BAD_REQUEST, "malformed-body"),
    PayloadTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "payload-too-large"),
    UnsupportedMediaType: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type"),
    UnknownHost: (HTTPStatus.MISDIRECTED_REQUEST, "unknown-host"),
    ForeignOrigin: (HTTPStatus.FORBIDDEN, "foreign-origin"),
    InvalidRequest: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-value"),
    Unauthorized: (HTTPStatus.UNAUTHORIZED, "unauthorized"),
    Forbidden: (HTTPStatus.FORBIDDEN, "forbidden"),
    UnknownJob: (HTTPStatus.NOT_FOUND, "unknown-job"),
    UnknownImage: (HTTPStatus.NOT_FOUND, "unknown-image"),
    JobCancelled: (HTTPStatus.CONFLICT, "job-cancelled"),
    TooSlow: (HTTPStatus.REQUEST_TIMEOUT, "too-slow"),
    QueueFull: (HTTPStatus.TOO_MANY_REQUESTS, "queue-full"),
    ClientQueueFull: (HTTPStatus.TOO_MANY_REQUESTS, "client-queue-full"),
    WouldMissDeadline: (HTTPStatus.TOO_MANY_REQUESTS, "would-miss-deadline"),
    RateLimited: (HTTPStatus.TOO_MANY_REQUESTS, "rate-limited"),
    TooManyJobs: (HTTPStatus.TOO_MANY_REQUESTS, "too-many-jobs"),
    Overloaded: (HTTPStatus.SERVICE_UNAVAILABLE, "overloaded"),
    JobFailed: (HTTPStatus.INTERNAL_SERVER_ERROR, "job-failed"),
    NotReady: (HTTPStatus.SERVICE_UNAVAILABLE, "not-ready"),
    QueueUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "queue-unavailable"),
    StoreUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable"),
    DeadlineExceeded: (HTTPStatus.GATEWAY_TIMEOUT, "deadline-exceeded"),
    DarkroomError: (HTTPStatus.INTERNAL_SERVER_ERROR, "internal"),
}
DOOR = (401, 403, 421, 429)  # how every route but health and pages may refuse
WORTH_RETRYING = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Problem(BaseModel):
    """Why there is no answer (RFC 9457). `field`, `value` and `bound` say what to change."""

    type: str = Field(examples=[TYPE_PREFIX + "size-not-a-multiple"])
    title: str = Field(examples=["Size not a multiple"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["width is 500, but must be a multiple of 8"])
    field: str | None = Field(default=None, examples=["width"])
    value: JsonValue = Field(default=None, description="What was sent, shortened.", examples=[500])
    bound: str | None = Field(default=None, examples=["a multiple of 8"])
    job: str | None = Field(default=None, description="Where the job lives on.", examples=[None])
    request_id: str | None = Field(default=None, description="For asking the operator about it.")


def problem(error: DarkroomError, request_id: str | None = None, job: str | None = None) -> Problem:
    """`error` as clients see it."""
    status, kind = next(TABLE[base] for base in type(error).__mro__ if base in TABLE)
    detail = {}
    if isinstance(error, InvalidRequest):
        kind = error.problem
        detail = {"field": error.field, "value": error.value, "bound": error.bound}
    return Problem(
        type=TYPE_PREFIX + kind,
        title=kind.replace("-", " ").capitalize(),
        status=status,
        detail=error.message,
        job=job,
        request_id=request_id,
        **detail,
    )


def problem_response(request: Request, error: DarkroomError, job: str | None = None) -> Response:
    """The answer for `error`; `job` is the path of the job that outlives this request, if any."""
    found = problem(error, request.scope.get("request_id"), job)
    headers = {"Cache-Control": "no-store"}
    if found.status in WORTH_RETRYING:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s or RETRY_AFTER_S))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooSlow):  # what is still to come of its body is not waited for
        headers["Connection"] = "close"
    if job is not None:
        headers["Location"] = job
    request.scope["problem"] = found.type.removeprefix(TYPE_PREFIX)  # for metrics and logs
    return _response(found, headers)


def add_problem_handlers(app: FastAPI) -> None:
    """From here on, whatever is raised in `app` is answered with a problem."""
    app.add_exception_handler(DarkroomError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_client_left)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems a route may answer with, for its OpenAPI description."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DarkroomError)
    return problem_response(request, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    """What FastAPI itself checked: path and query parameters."""
    assert isinstance(error, RequestValidationError)
    complaint = error.errors()[0]
    return problem_response(request, to_invalid_request({**complaint, "loc": complaint["loc"][1:]}))


async def _on_client_left(request: Request, error: Exception) -> Response:
    """Nobody reads this; the status is for the metrics."""
    return Response(status_code=CLIENT_LEFT)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What routing refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    found = Problem(
        type=TYPE_PREFIX + status.phrase.lower().replace(" ", "-"),
        title=status.phrase,
        status=status,
        detail=status.description or status.phrase,
        request_id=request.scope.get("request_id"),
    )
    request.scope["problem"] = found.type.removeprefix(TYPE_PREFIX)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "")
    return _response(found, headers)


def _methods(request: Request) -> list[str]:
    """Every method the path asked for knows; the router names those of its first match only."""
    path = getattr(request.scope.get("route"), "path", None)
    return [method.upper() for method in request.app.openapi()["paths"].get(path, ())]


def _response(found: Problem, headers: dict[str, str]) -> Response:
    body = found.model_dump_json(exclude_none=True)
    return Response(body, found.status, headers, media_type=MEDIA_TYPE)

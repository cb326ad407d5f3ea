"""Error responses: the one table from error to HTTP status, and RFC 9457 problem+json.

Texts come from `protocol.errors` only; an unexpected exception shows no more than its request id.
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
    JobLost,
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
CLIENT_CLOSED_REQUEST = 499  # nginx's status

# Error -> status and the last part of the problem's type, which an InvalidRequest has itself.
STATUSES: dict[type[DarkroomError], tuple[HTTPStatus, str]] = {
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
    JobLost: (HTTPStatus.SERVICE_UNAVAILABLE, "job-lost"),
    NotReady: (HTTPStatus.SERVICE_UNAVAILABLE, "not-ready"),
    QueueUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "queue-unavailable"),
    StoreUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable"),
    DeadlineExceeded: (HTTPStatus.GATEWAY_TIMEOUT, "deadline-exceeded"),
    DarkroomError: (HTTPStatus.INTERNAL_SERVER_ERROR, "internal"),
}
ACCESS_STATUSES = (401, 403, 421, 429)  # of every route but health and pages
RETRYABLE = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Problem(BaseModel):
    """The reason of an error (RFC 9457). `field`, `value` and `bound` say what to change."""

    type: str = Field(examples=[TYPE_PREFIX + "size-not-a-multiple"])
    title: str = Field(examples=["Size not a multiple"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["width is 500, but must be a multiple of 8"])
    field: str | None = Field(default=None, examples=["width"])
    value: JsonValue = Field(default=None, description="What was sent, shortened.", examples=[500])
    bound: str | None = Field(default=None, examples=["a multiple of 8"])
    job: str | None = Field(
        default=None, description="The path of the job, which goes on.", examples=[None]
    )
    request_id: str | None = Field(default=None, description="For asking the operator about it.")


def problem_of(
    error: DarkroomError, request_id: str | None = None, job: str | None = None
) -> Problem:
    """Return `error` as clients see it."""
    status, kind = next(STATUSES[base] for base in type(error).__mro__ if base in STATUSES)
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
    """Return the response for `error`; `job` is the path of a job that goes on, if any."""
    problem = problem_of(error, request.scope.get("request_id"), job)
    headers = {"Cache-Control": "no-store"}
    if problem.status in RETRYABLE:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s or RETRY_AFTER_S))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooSlow):  # the rest of the body is not read
        headers["Connection"] = "close"
    if job is not None:
        headers["Location"] = job
    request.scope["problem"] = problem.type.removeprefix(TYPE_PREFIX)  # for metrics and logs
    return _response(problem, headers)


def add_problem_handlers(app: FastAPI) -> None:
    """Make `app` respond with a problem to every error raised in a route."""
    app.add_exception_handler(DarkroomError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_client_disconnect)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of a route's error responses."""
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
    """Handle errors of FastAPI's own validation: path and query parameters."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return problem_response(request, to_invalid_request({**first, "loc": first["loc"][1:]}))


async def _on_client_disconnect(request: Request, error: Exception) -> Response:
    """Set the status for the metrics; the client no longer reads the response."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Handle errors of routing: unknown path or method."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    problem = Problem(
        type=TYPE_PREFIX + status.phrase.lower().replace(" ", "-"),
        title=status.phrase,
        status=status,
        detail=status.description or status.phrase,
        request_id=request.scope.get("request_id"),
    )
    request.scope["problem"] = problem.type.removeprefix(TYPE_PREFIX)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "")
    return _response(problem, headers)


def _methods(request: Request) -> list[str]:
    """Return every method of the requested path; the router gives those of its first match only."""
    path = getattr(request.scope.get("route"), "path", None)
    return [method.upper() for method in request.app.openapi()["paths"].get(path, ())]


def _response(problem: Problem, headers: dict[str, str]) -> Response:
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, problem.status, headers, media_type=MEDIA_TYPE)

"""Error responses: the one table from error to HTTP status.

The body is a problem (RFC 9457), or what the client's API has in its place (`error_format`).
Texts come from `protocol.errors` only; an unexpected exception shows no more than its request id.
"""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.sse import ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection

from protocol.errors import (
    ClientQueueFull,
    DarkroomError,
    DeadlineExceeded,
    DecodingBusy,
    Forbidden,
    ForeignOrigin,
    InputsGone,
    InvalidRequest,
    JobCancelled,
    JobDeleted,
    JobFailed,
    JobLost,
    MalformedBody,
    MalformedRequest,
    NotAcceptable,
    NotEnabled,
    NotReady,
    NotRetryable,
    OptionsChanged,
    Overloaded,
    PayloadTooLarge,
    QueueFull,
    QueueUnavailable,
    RateLimited,
    ServiceStopping,
    StoreUnavailable,
    TooManyConnections,
    TooManyInstalls,
    TooManyJobs,
    TooManyUploads,
    TooSlow,
    Unauthorized,
    UnknownBatch,
    UnknownFile,
    UnknownHost,
    UnknownImage,
    UnknownInstall,
    UnknownJob,
    UnknownModel,
    UnsupportedMediaType,
    WouldMissDeadline,
)
from protocol.request.validation_errors import to_invalid_request
from service.schemas.allowed_methods import allowed_methods
from service.schemas.error_format import error_format
from service.schemas.problem import TYPE_PREFIX, Problem

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5
CLIENT_CLOSED_REQUEST = 499  # nginx's status

# Error -> status and the last part of the problem's type, which an InvalidRequest has itself.
STATUSES: dict[type[DarkroomError], tuple[HTTPStatus, str]] = {
    MalformedRequest: (HTTPStatus.BAD_REQUEST, "malformed-request"),
    MalformedBody: (HTTPStatus.BAD_REQUEST, "malformed-body"),
    PayloadTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "payload-too-large"),
    UnsupportedMediaType: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type"),
    NotAcceptable: (HTTPStatus.NOT_ACCEPTABLE, "not-acceptable"),
    UnknownHost: (HTTPStatus.MISDIRECTED_REQUEST, "unknown-host"),
    ForeignOrigin: (HTTPStatus.FORBIDDEN, "foreign-origin"),
    InvalidRequest: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-value"),
    Unauthorized: (HTTPStatus.UNAUTHORIZED, "unauthorized"),
    Forbidden: (HTTPStatus.FORBIDDEN, "forbidden"),
    NotEnabled: (HTTPStatus.FORBIDDEN, "not-enabled"),
    UnknownJob: (HTTPStatus.NOT_FOUND, "unknown-job"),
    UnknownModel: (HTTPStatus.NOT_FOUND, "unknown-model"),
    UnknownInstall: (HTTPStatus.NOT_FOUND, "unknown-install"),
    UnknownBatch: (HTTPStatus.NOT_FOUND, "unknown-batch"),
    UnknownFile: (HTTPStatus.NOT_FOUND, "unknown-file"),
    UnknownImage: (HTTPStatus.NOT_FOUND, "unknown-image"),
    JobCancelled: (HTTPStatus.CONFLICT, "job-cancelled"),
    NotRetryable: (HTTPStatus.CONFLICT, "not-retryable"),
    JobDeleted: (HTTPStatus.GONE, "job-deleted"),
    OptionsChanged: (HTTPStatus.CONFLICT, "options-changed"),
    InputsGone: (HTTPStatus.GONE, "inputs-gone"),
    TooSlow: (HTTPStatus.REQUEST_TIMEOUT, "too-slow"),
    QueueFull: (HTTPStatus.TOO_MANY_REQUESTS, "queue-full"),
    ClientQueueFull: (HTTPStatus.TOO_MANY_REQUESTS, "client-queue-full"),
    WouldMissDeadline: (HTTPStatus.TOO_MANY_REQUESTS, "would-miss-deadline"),
    RateLimited: (HTTPStatus.TOO_MANY_REQUESTS, "rate-limited"),
    TooManyInstalls: (HTTPStatus.TOO_MANY_REQUESTS, "too-many-installs"),
    TooManyJobs: (HTTPStatus.TOO_MANY_REQUESTS, "too-many-jobs"),
    DecodingBusy: (HTTPStatus.TOO_MANY_REQUESTS, "decoding-busy"),
    TooManyUploads: (HTTPStatus.TOO_MANY_REQUESTS, "too-many-uploads"),
    TooManyConnections: (HTTPStatus.SERVICE_UNAVAILABLE, "too-many-connections"),
    Overloaded: (HTTPStatus.SERVICE_UNAVAILABLE, "overloaded"),
    ServiceStopping: (HTTPStatus.SERVICE_UNAVAILABLE, "service-stopping"),
    JobFailed: (HTTPStatus.INTERNAL_SERVER_ERROR, "job-failed"),
    JobLost: (HTTPStatus.SERVICE_UNAVAILABLE, "job-lost"),
    NotReady: (HTTPStatus.SERVICE_UNAVAILABLE, "not-ready"),
    QueueUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "queue-unavailable"),
    StoreUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable"),
    DeadlineExceeded: (HTTPStatus.GATEWAY_TIMEOUT, "deadline-exceeded"),
    DarkroomError: (HTTPStatus.INTERNAL_SERVER_ERROR, "internal"),
}
RETRYABLE = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class NothingNew(Exception):
    """A client that has seen already what it asks for; the response is empty."""


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


def problem_response(request: HTTPConnection, error: DarkroomError) -> Response:
    """Return the response for `error`, in the form of the client's API.

    A request whose job has been accepted has the path of the job in `scope["job"]`: the client
    can follow it whatever the error is.
    """
    problem = seen_problem(request, error)
    headers = {"Cache-Control": "no-store"}
    if problem.status in RETRYABLE:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s or RETRY_AFTER_S))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = error_format(request.scope).challenge
    if problem.job is not None:
        headers["Location"] = problem.job
    return _response(request, problem, headers)


def problem_event(request: HTTPConnection, error: DarkroomError) -> ServerSentEvent:
    """Return `error` as the last of a stream of server-sent events, in the form of the API."""
    problem, form = seen_problem(request, error), error_format(request.scope)
    wait_ms = math.ceil(error.retry_after_s or RETRY_AFTER_S) * 1000
    return ServerSentEvent(
        event=form.event,
        raw_data=form.content(problem).decode(),
        retry=wait_ms if problem.status in RETRYABLE else None,
    )


def seen_problem(request: HTTPConnection, error: DarkroomError) -> Problem:
    """Return `error` as the client of `request` sees it, and note it for metrics and logs.

    `scope["field_names"]` has the client's names of our fields, if they differ.
    """
    job = None if isinstance(error, JobLost) else request.scope.get("job")  # else nothing goes on
    names: Mapping[str, str] = request.scope.get("field_names", {})
    if isinstance(error, InvalidRequest) and error.field in names:
        error = type(error)(names[error.field], error.value, error.bound, error.problem)
    problem = problem_of(error, request.scope.get("request_id"), job)
    request.scope["problem"] = problem.kind
    return problem


def add_problem_handlers(app: FastAPI) -> None:
    """Make `app` respond with a problem to every error raised in a route."""
    app.add_exception_handler(DarkroomError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_client_disconnect)
    app.add_exception_handler(NothingNew, _on_nothing_new)


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


async def _on_nothing_new(request: Request, error: Exception) -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT)


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
    request.scope["problem"] = problem.kind
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        # The router gives the methods of its first match only.
        headers["Allow"] = ", ".join(allowed_methods(request.scope))
    return _response(request, problem, headers)


def _response(request: HTTPConnection, problem: Problem, headers: dict[str, str]) -> Response:
    form = error_format(request.scope)
    headers = {**headers, **form.headers(problem)}
    return Response(form.content(problem), form.status(problem), headers, form.media_type)

"""The error responses in the OpenAPI description, one component for each status."""

from typing import Any

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
from service.schemas.examples import JOB, JOB_PATH
from service.schemas.problem import MEDIA_TYPE
from service.schemas.problems import problem_of

# Statuses with which the middleware may answer a request to any route but those of `health`.
ACCESS_STATUSES = (401, 403, 421)
# Statuses of every route: an error in Darkroom; too many connections, or no Redis.
SERVER_STATUSES = (500, 503)

REFERENCE = "#/components/responses/Problem{status}"

CAUSES = {
    400: "The body is not valid JSON or not a valid form.",
    401: "No API key, or an unknown one.",
    403: "The key lacks the scope, or a page of another site sent the request.",
    404: "There is no such job, file, image or model, or none that this key may see.",
    405: "The path has no such method; `Allow` lists those it has.",
    406: "`Accept` names only types of images that are not made here.",
    408: "The request was sent too slowly.",
    409: "The job was cancelled while the request waited, or is in a state that has no retry.",
    410: "The job was deleted, or the images that it needs are no longer stored.",
    413: "The body is larger than the service reads.",
    415: "The content type or encoding of the body is not supported.",
    421: "The `Host` header is not a name of this service.",
    422: "A field is missing, unknown or out of bounds. `field`, `value` and `bound` say which.",
    429: "A limit of the queue or of the API key is reached.",
    500: "The worker could not generate the images, or there is an error in Darkroom.",
    503: "The service cannot accept the request now.",
    504: "The images take longer than a client may wait; `job` is the path of the job.",
}
# An error of each kind, as examples.
ERRORS: tuple[DarkroomError, ...] = (
    MalformedRequest("it ends early"),
    MalformedBody("body", "wrong at line 1, column 12", "JSON", "invalid-json"),
    Unauthorized(),
    Forbidden("generate"),
    ForeignOrigin("Origin", "https://example.org", "the origin of this service"),
    UnknownJob(JOB),
    UnknownBatch(JOB),
    UnknownFile(JOB),
    UnknownModel("sd15"),
    UnknownInstall("0f0e0d0c0b0a0908"),
    NotEnabled("models are not loaded and unloaded by request", "DARKROOM_MODEL_CONTROL"),
    UnknownImage(f"4 of job {JOB}"),
    TooSlow(30, 16_000, 10),
    JobCancelled(JOB),
    NotRetryable(JOB, "running"),
    JobDeleted(JOB),
    OptionsChanged(),
    InputsGone(JOB),
    PayloadTooLarge("body", "over 33554432 bytes", "at most 33554432 bytes"),
    UnsupportedMediaType("Content-Type", "text/plain", "application/json or multipart/form-data"),
    NotAcceptable("Accept", "image/gif", "application/json or one of image/png, image/jpeg"),
    UnknownHost("Host", "example.org", "a name of this service"),
    InvalidRequest("width", 500, "a multiple of 8", "size-not-a-multiple"),
    QueueFull(100, 100, 12.5),
    ClientQueueFull(20, 20, 3.5),
    WouldMissDeadline(31.2, 30, 1.2),
    RateLimited("requests", 60, 0.8),
    TooManyInstalls(16, 16),
    TooManyJobs(4),
    TooManyUploads(16),
    DecodingBusy(),
    JobFailed("the worker died while it ran"),
    DarkroomError(),
    TooManyConnections(1000),
    ServiceStopping(),
    Overloaded(),
    NotReady("no worker is running"),
    JobLost(JOB),
    QueueUnavailable(),
    StoreUnavailable(),
    DeadlineExceeded(300),
)
# Errors of a job, whose path their responses have.
OF_JOBS = (JobCancelled, JobFailed, DeadlineExceeded)

RETRY_AFTER = {
    "description": "Seconds after which a retry may succeed.",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
LOCATION = {
    "description": "The path of the job, if there is one.",
    "schema": {"type": "string", "format": "uri-reference"},
}
ALLOW = {"required": True, "schema": {"type": "string", "examples": ["GET, HEAD"]}}
CHALLENGE = {"required": True, "schema": {"type": "string", "examples": ["Bearer"]}}
HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": CHALLENGE},
    405: {"Allow": ALLOW},
    409: {"Location": LOCATION},
    429: {"Retry-After": RETRY_AFTER},
    500: {"Location": LOCATION},
    503: {"Retry-After": RETRY_AFTER, "Location": LOCATION},
    504: {"Location": LOCATION},
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return references to the descriptions of a route's error responses."""
    return {
        status: {"$ref": REFERENCE.format(status=status), "description": CAUSES[status]}
        for status in statuses
    }


def problem_components() -> dict[str, Any]:
    """Return the descriptions that `problem_responses` refers to, by name."""
    return {f"Problem{status}": _component(status, cause) for status, cause in CAUSES.items()}


def _component(status: int, cause: str) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if examples := _examples(status):
        content["examples"] = examples
    return {
        "description": cause,
        "headers": HEADERS.get(status, {}),
        "content": {MEDIA_TYPE: content},
    }


def _examples(status: int) -> dict[str, Any]:
    """Return examples of the problems of a status, by the last part of their type."""
    problems = [
        problem_of(error, job=JOB_PATH if isinstance(error, OF_JOBS) else None) for error in ERRORS
    ]
    return {
        problem.kind: {"value": problem.model_dump(exclude_none=True)}
        for problem in problems
        if problem.status == status
    }

"""The errors of a client.

DarkroomError
├── ServerUnreachable
├── UnexpectedAnswer
└── ProblemError
    ├── BadRequest                400, 406, 408, 413, 415, 421
    │   ├── MalformedBody, MalformedRequest, NotAcceptable, TooSlow, PayloadTooLarge
    │   └── UnsupportedMediaType, UnknownHost
    ├── Unauthorized              401
    ├── Forbidden                 403
    │   └── NotEnabled, ForeignOrigin
    ├── NotFound                  404
    │   └── UnknownJob, UnknownBatch, UnknownModel, UnknownInstall, UnknownFile, UnknownImage
    ├── Conflict                  409
    │   └── JobCancelled, NotRetryable, OptionsChanged
    ├── Gone                      410
    │   └── JobDeleted, InputsGone
    ├── InvalidRequest            422
    ├── LimitReached              429
    │   ├── QueueFull, ClientQueueFull, WouldMissDeadline, RateLimited, TooManyJobs
    │   └── TooManyUploads, TooManyInstalls, DecodingBusy
    └── ServerError               500 and above
        ├── JobFailed, DeadlineExceeded
        └── Unavailable           503
            ├── NotReady, Overloaded, TooManyConnections, ServiceStopping, JobLost
            └── QueueUnavailable, StoreUnavailable

The name of a class is the last part of the problem's type: `urn:darkroom:problem:queue-full` is
`QueueFull`. Other types have the class of their status.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TYPE_PREFIX = "urn:darkroom:problem:"


@dataclass(frozen=True)
class Problem:
    """The reason of an error as the server gives it (RFC 9457).

    `kind` is the last part of its type. `field`, `value` and `bound` say what to change. `job_id`
    is the job that goes on.
    """

    status: int
    kind: str = ""
    title: str = ""
    detail: str = ""
    field: str | None = None
    value: Any = None
    bound: str | None = None
    job_id: str | None = None
    request_id: str | None = None


class DarkroomError(Exception):
    """A request that had no success."""


class ServerUnreachable(DarkroomError):
    """No server answers at the address, or the connection was lost."""


class UnexpectedAnswer(DarkroomError):
    """A server answers, but not as Darkroom does."""


class ProblemError(DarkroomError):
    """The server refused a request, or failed. `retry_after_s`: when another try may succeed."""

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(problem.detail or problem.title or f"status {problem.status}")
        self.problem = problem
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def kind(self) -> str:
        return self.problem.kind

    @property
    def field(self) -> str | None:
        return self.problem.field

    @property
    def bound(self) -> str | None:
        return self.problem.bound

    @property
    def job_id(self) -> str | None:
        return self.problem.job_id


class BadRequest(ProblemError):
    """The request cannot be read."""


class MalformedBody(BadRequest):
    """The body is not valid JSON or not a valid form."""


class MalformedRequest(BadRequest):
    """A request that is not HTTP/1.1, or ends early."""


class NotAcceptable(BadRequest):
    """Only types of images are accepted that are not made there."""


class TooSlow(BadRequest):
    """The body was sent too slowly."""


class PayloadTooLarge(BadRequest):
    """The body is larger than the server reads."""


class UnsupportedMediaType(BadRequest):
    """The content type or encoding is not supported."""


class UnknownHost(BadRequest):
    """The server does not know the name by which it was called."""


class Unauthorized(ProblemError):
    """There is no API key, or an unknown one."""


class Forbidden(ProblemError):
    """The API key lacks the scope."""


class NotEnabled(Forbidden):
    """The operator has not turned on this part of the server."""


class ForeignOrigin(Forbidden):
    """A page of another site sent the request."""


class NotFound(ProblemError):
    """There is no such thing, or none that this API key may see."""


class UnknownJob(NotFound):
    """There is no such job."""


class UnknownBatch(NotFound):
    """There is no such batch."""


class UnknownModel(NotFound):
    """There is no such model."""


class UnknownInstall(NotFound):
    """There is no such install."""


class UnknownFile(NotFound):
    """There is no such file."""


class UnknownImage(NotFound):
    """There is no such image."""


class Conflict(ProblemError):
    """The job is in a state that does not allow this."""


class JobCancelled(Conflict):
    """The job was cancelled."""


class NotRetryable(Conflict):
    """The job has not failed, so there is nothing to retry."""


class OptionsChanged(Conflict):
    """The options of the client were changed meanwhile: send the request again."""


class Gone(ProblemError):
    """A request for something that was deleted."""


class JobDeleted(Gone):
    """The job of this idempotency key was deleted."""


class InputsGone(Gone):
    """The input images of the job are no longer stored."""


class InvalidRequest(ProblemError):
    """A field is missing, unknown or out of bounds: see `field` and `bound`."""


class LimitReached(ProblemError):
    """A limit of the queue or of the API key is reached."""


class QueueFull(LimitReached):
    """Too many jobs wait."""


class ClientQueueFull(LimitReached):
    """Too many jobs of this client wait."""


class WouldMissDeadline(LimitReached):
    """The job would still wait at its deadline."""


class RateLimited(LimitReached):
    """A rate of the API key is used up."""


class TooManyJobs(LimitReached):
    """Too many jobs of the API key have not ended."""


class TooManyUploads(LimitReached):
    """The client is sending too many bodies at once."""


class TooManyInstalls(LimitReached):
    """Too many installs have not ended."""


class DecodingBusy(LimitReached):
    """Other large images are being decoded."""


class ServerError(ProblemError):
    """There is an error in the server."""


class JobFailed(ServerError):
    """The job failed; the message says why."""


class DeadlineExceeded(ServerError):
    """The images took longer than a client may wait."""


class Unavailable(ServerError):
    """The server cannot do this now."""


class NotReady(Unavailable):
    """No worker can serve this yet, or there is no API key at all."""


class Overloaded(Unavailable):
    """The server holds too many bytes of request bodies."""


class TooManyConnections(Unavailable):
    """The limit of open connections is reached."""


class ServiceStopping(Unavailable):
    """The server is being stopped."""


class JobLost(Unavailable):
    """The record of the job or its images are gone: send the request again."""


class QueueUnavailable(Unavailable):
    """The server cannot reach its queue."""


class StoreUnavailable(Unavailable):
    """The server cannot reach its object store."""


BY_STATUS: dict[int, type[ProblemError]] = {
    400: MalformedBody,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    406: NotAcceptable,
    408: TooSlow,
    409: Conflict,
    410: Gone,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
    421: UnknownHost,
    422: InvalidRequest,
    429: LimitReached,
    503: Unavailable,
    504: DeadlineExceeded,
}


def error_of(problem: Problem, retry_after_s: float | None = None) -> ProblemError:
    """Return the error of a problem."""
    others = ServerError if problem.status >= 500 else BadRequest
    kind = BY_KIND.get(problem.kind) or BY_STATUS.get(problem.status, others)
    return kind(problem, retry_after_s)


def _kinds(base: type[ProblemError]) -> Iterator[type[ProblemError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


def kind_of(error: type[ProblemError]) -> str:
    """Return the last part of a problem's type from the name of its class."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower()


BY_KIND = {kind_of(error): error for error in _kinds(ProblemError)}

"""The errors of Darkroom. Their messages may be shown to a client.

    DarkroomError
    ├── InvalidRequest            the request itself is wrong: field, value, bound
    │   ├── MalformedBody         a body that cannot be parsed
    │   ├── PayloadTooLarge       more bytes than the service reads
    │   ├── UnsupportedMediaType  an unsupported content type
    │   ├── UnknownHost           a Host header with a foreign name
    │   └── ForeignOrigin         a page of another site sends it
    ├── NotFound
    │   ├── UnknownJob
    │   └── UnknownImage
    ├── Unauthorized              no API key, or an unknown one
    ├── Forbidden                 an API key without the scope
    ├── RateLimited               more in a minute than the key allows
    ├── TooManyJobs               more jobs at once than the key allows
    ├── Overloaded                too many uploaded bytes at once
    ├── TooSlow                   the client sends its request too slowly
    ├── NotReady                  no worker can serve the request yet
    ├── QueueFull                 too many jobs are waiting
    │   └── ClientQueueFull       too many jobs of this client are waiting
    ├── WouldMissDeadline         its turn would come after its deadline
    ├── JobFailed                 the worker could not generate the image
    ├── JobCancelled              a client cancelled it
    ├── JobLost                   its record is gone: Redis has lost its data
    ├── DeadlineExceeded          it took longer than its limit
    ├── QueueUnavailable          Redis does not answer
    └── StoreUnavailable          the object store does not answer

Every error can be stored as JSON and restored (`to_record`, `from_record`), so that a worker's
error reaches the client as the same problem. Messages are built here from values, never from the
text of another library's exception.
"""

import json
import math

from pydantic import Field, JsonValue

from protocol.record import Record

MAX_VALUE_LENGTH = 64  # characters of an invalid value that an error repeats


class ErrorRecord(Record):
    """An error as JSON. `kind` names the class, `details` are its constructor's arguments."""

    kind: str
    message: str
    details: dict[str, JsonValue] = Field(default_factory=dict)


class DarkroomError(Exception):
    """The base of all errors; by itself, an internal fault without details for clients.

    `retry_after_s`: seconds after which a retry may succeed, if known.
    """

    retry_after_s: float | None = None

    def __init__(
        self, message: str = "something went wrong inside Darkroom", **details: JsonValue
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def to_record(self) -> ErrorRecord:
        return ErrorRecord(kind=type(self).__name__, message=self.message, details=self.details)

    @staticmethod
    def from_record(record: ErrorRecord) -> "DarkroomError":
        """Return the error in `record`; an unknown kind becomes the base class."""
        kind = _kinds(DarkroomError).get(record.kind, DarkroomError)
        if kind.__init__ is DarkroomError.__init__:
            return kind(record.message, **record.details)
        try:
            return kind(**record.details)  # type: ignore[arg-type]  # what the constructor was given
        except TypeError:  # written by another version of Darkroom
            return DarkroomError(record.message)


class InvalidRequest(DarkroomError):
    """A field with a wrong value: `field` is `value`, but must be `bound`.

    `bound` is a phrase: "at most 150", "a multiple of 8". `problem` is a short id, the last part
    of the problem's type.
    """

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "invalid-value"
    ) -> None:
        field = str(shorten(field))  # a client can send any field name
        shown = shorten(value)
        given = "is missing" if shown is None else f"is {json.dumps(shown, ensure_ascii=False)}"
        super().__init__(
            f"{field} {given}, but must be {bound}",
            field=field,
            value=shown,
            bound=bound,
            problem=problem,
        )
        self.field = field
        self.value = shown
        self.bound = bound
        self.problem = problem


class MalformedBody(InvalidRequest):
    """A body that cannot be parsed: broken JSON, broken multipart."""


class PayloadTooLarge(InvalidRequest):
    """A body, or a part of one, with more bytes than the service reads."""

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "payload-too-large"
    ) -> None:
        super().__init__(field, value, bound, problem)


class UnsupportedMediaType(InvalidRequest):
    """A body, or a part of one, in an unsupported content type or encoding."""

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "unsupported-media-type"
    ) -> None:
        super().__init__(field, value, bound, problem)


class UnknownHost(InvalidRequest):
    """A Host header with a foreign name, as after DNS rebinding."""

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "unknown-host"
    ) -> None:
        super().__init__(field, value, bound, problem)


class ForeignOrigin(InvalidRequest):
    """A request that a page of another site makes a browser send."""

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "foreign-origin"
    ) -> None:
        super().__init__(field, value, bound, problem)


class Unauthorized(DarkroomError):
    """No API key, or an unknown one. The message does not reveal which."""

    def __init__(self) -> None:
        super().__init__("this needs an API key, as Authorization: Bearer or X-API-Key")


class Forbidden(DarkroomError):
    """A known API key without the scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"this needs a key with the scope {scope}", scope=scope)
        self.scope = scope


class RateLimited(DarkroomError):
    """A key over its limit of `limit` of `what` a minute, until `retry_after_s` has passed."""

    def __init__(self, what: str, limit: int, retry_after_s: float) -> None:
        super().__init__(
            f"this key may ask for {limit} {what} a minute",
            what=what,
            limit=limit,
            retry_after_s=retry_after_s,
        )
        self.what = what
        self.limit = limit
        self.retry_after_s = retry_after_s


class TooManyJobs(DarkroomError):
    """A key with `limit` jobs waiting or running already."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"this key may have {limit} jobs at once", limit=limit)
        self.limit = limit


class Overloaded(DarkroomError):
    """Too many uploaded bytes at once for this request to be read now."""

    def __init__(self) -> None:
        super().__init__("too much is being uploaded at this moment")


class TooSlow(DarkroomError):
    """A request that was not complete after `limit_s` seconds."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the request did not arrive within {limit_s:g} seconds", limit_s=limit_s)
        self.limit_s = limit_s


class NotFound(DarkroomError):
    """A missing object: it does not exist, or no longer does."""


class UnknownJob(NotFound):
    """A job id without a job, or whose record has expired."""

    def __init__(self, job_id: str) -> None:
        shown = str(shorten(job_id))
        super().__init__(f"there is no job {shown}", job_id=shown)
        self.job_id = shown


class UnknownImage(NotFound):
    """A key without an object in the store."""

    def __init__(self, key: str) -> None:
        shown = str(shorten(key))
        super().__init__(f"there is no image {shown}", key=shown)
        self.key = shown


class NotReady(DarkroomError):
    """No worker can serve the request yet; `reason` is the cause."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not ready: {reason}", reason=reason)
        self.reason = reason


class QueueFull(DarkroomError):
    """A full queue: `depth` jobs wait, and at most `limit` may.

    `retry_after_s`: seconds until there is room for one more, at the measured rate; None: unknown.
    """

    def __init__(self, depth: int, limit: int, retry_after_s: float | None = None) -> None:
        super().__init__(
            f"{depth} jobs are waiting, and at most {limit} may",
            depth=depth,
            limit=limit,
            retry_after_s=retry_after_s,
        )
        self.depth = depth
        self.limit = limit
        self.retry_after_s = retry_after_s


class ClientQueueFull(QueueFull):
    """A client's full queue: `depth` of its jobs wait, and at most `limit` may."""

    def __init__(self, depth: int, limit: int, retry_after_s: float | None = None) -> None:
        super().__init__(depth, limit, retry_after_s)
        self.message = f"{depth} of your jobs are waiting, and at most {limit} may"


class WouldMissDeadline(DarkroomError):
    """A job that would wait for about `wait_s` seconds, longer than its `deadline_s`.

    `retry_after_s`: seconds after which it would not, if no other job were submitted.
    """

    def __init__(self, wait_s: float, deadline_s: float, retry_after_s: float) -> None:
        super().__init__(
            f"it would wait for about {wait_s:.1f} seconds, but is to be done in {deadline_s:g}",
            wait_s=wait_s,
            deadline_s=deadline_s,
            retry_after_s=retry_after_s,
        )
        self.wait_s = wait_s
        self.deadline_s = deadline_s
        self.retry_after_s = retry_after_s


class JobFailed(DarkroomError):
    """A failed job; `reason` is a sentence written here, fit for clients."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the job failed: {reason}", reason=reason)
        self.reason = reason


class JobCancelled(DarkroomError):
    """A job that a client cancelled."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was cancelled", job_id=job_id)
        self.job_id = job_id


class JobLost(DarkroomError):
    """A job whose record is gone before its client has seen an end: Redis has lost its data."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"the record of job {job_id} is gone, and its images with it; send the request again",
            job_id=job_id,
        )
        self.job_id = job_id


class DeadlineExceeded(DarkroomError):
    """Work that took, or would take, longer than `limit_s` seconds."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"it took longer than {limit_s:g} seconds", limit_s=limit_s)
        self.limit_s = limit_s


class QueueUnavailable(DarkroomError):
    """No answer, or a wrong one, from Redis."""

    def __init__(self) -> None:
        super().__init__("the job queue cannot be reached")


class StoreUnavailable(DarkroomError):
    """No answer, or a wrong one, from the object store."""

    def __init__(self) -> None:
        super().__init__("the image store cannot be reached")


def shorten(value: object) -> JsonValue:
    """Return `value` as shown in errors: a JSON scalar of at most `MAX_VALUE_LENGTH` characters."""
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) < 2**63 else "a very large number"
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            printable = "".join(
                c if c.isprintable() else "\N{REPLACEMENT CHARACTER}"
                for c in value[:MAX_VALUE_LENGTH]
            )
            return printable if len(value) <= MAX_VALUE_LENGTH else f"{printable}…"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


def _kinds(root: type[DarkroomError]) -> dict[str, type[DarkroomError]]:
    """Return `root` and all its subclasses by name."""
    below = {name: kind for child in root.__subclasses__() for name, kind in _kinds(child).items()}
    return {root.__name__: root, **below}

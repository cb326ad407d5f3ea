"""Everything Darkroom refuses or fails at, in words that may be shown to a client.

    DarkroomError
    ├── InvalidRequest            the request itself is wrong: field, value, bound
    │   ├── MalformedBody         a body that cannot be read at all
    │   ├── PayloadTooLarge       more bytes than we read
    │   ├── UnsupportedMediaType  a content type we do not speak
    │   ├── UnknownHost           a Host header that does not mean this service
    │   └── ForeignOrigin         a browser sends it on behalf of another site
    ├── NotFound
    │   ├── UnknownJob
    │   └── UnknownImage
    ├── Unauthorized              no key, or none that is known
    ├── Forbidden                 a key, but not for this
    ├── RateLimited               more in a minute than the key may
    ├── TooManyJobs               more jobs at once than the key may have
    ├── Overloaded                more bytes at once than the service may hold
    ├── TooSlow                   the client takes too long to say what it wants
    ├── NotReady                  no worker can serve this yet
    ├── QueueFull                 too many jobs are waiting
    │   └── ClientQueueFull       too many of them are this client's
    ├── WouldMissDeadline         its turn would come when nobody waits any more
    ├── JobFailed                 the worker could not make the picture
    ├── JobCancelled              somebody asked for it to stop
    ├── DeadlineExceeded          it took longer than it may
    ├── QueueUnavailable          Redis does not answer
    └── StoreUnavailable          the object store does not answer

Every error survives JSON (`to_record`, `from_record`), so a worker's refusal reaches the client as
the same problem. Messages are written here from values, never from the text of a foreign exception.
"""

import json
import math

from pydantic import Field, JsonValue

from protocol.record import Record

LONGEST_VALUE = 64  # characters of an offending value that an error repeats


class ErrorRecord(Record):
    """An error as JSON. `kind` names the class, `details` are its constructor's arguments."""

    kind: str
    message: str
    details: dict[str, JsonValue] = Field(default_factory=dict)


class DarkroomError(Exception):
    """The base of the tree; by itself, a fault of ours that clients are told nothing more about.

    `retry_after_s`: in how many seconds it may go better, where that is known.
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
        """The error that `record` was made of; one we cannot make comes back as the base class."""
        kind = _kinds(DarkroomError).get(record.kind, DarkroomError)
        if kind.__init__ is DarkroomError.__init__:
            return kind(record.message, **record.details)
        try:
            return kind(**record.details)  # type: ignore[arg-type]  # what the constructor was given
        except TypeError:  # written by another version of Darkroom
            return DarkroomError(record.message)


class InvalidRequest(DarkroomError):
    """`field` is `value`, but must be `bound` (a phrase: "at most 150", "a multiple of 8").

    `problem` is the short name of what is wrong, the last part of the problem's type.
    """

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "invalid-value"
    ) -> None:
        field = str(shorten(field))  # it may be the client's own word
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
    """The body cannot be read at all: broken JSON, broken multipart."""


class PayloadTooLarge(InvalidRequest):
    """More bytes than the service reads."""

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "payload-too-large"
    ) -> None:
        super().__init__(field, value, bound, problem)


class UnsupportedMediaType(InvalidRequest):
    """The body, or a part of it, comes in a content type or encoding that is not understood."""

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "unsupported-media-type"
    ) -> None:
        super().__init__(field, value, bound, problem)


class UnknownHost(InvalidRequest):
    """The Host header names somebody else, as after DNS rebinding."""

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "unknown-host"
    ) -> None:
        super().__init__(field, value, bound, problem)


class ForeignOrigin(InvalidRequest):
    """A page of another site makes a browser send this."""

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "foreign-origin"
    ) -> None:
        super().__init__(field, value, bound, problem)


class Unauthorized(DarkroomError):
    """No key came along, or none that is known; which of the two is nobody's business."""

    def __init__(self) -> None:
        super().__init__("this needs an API key, as Authorization: Bearer or X-API-Key")


class Forbidden(DarkroomError):
    """The key is known, but lacks the scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"this needs a key with the scope {scope}", scope=scope)
        self.scope = scope


class RateLimited(DarkroomError):
    """The key has asked for `limit` of `what` in a minute; after `retry_after_s` there is room."""

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
    """The key has `limit` jobs waiting or running already."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"this key may have {limit} jobs at once", limit=limit)
        self.limit = limit


class Overloaded(DarkroomError):
    """There is no room for this request now."""

    def __init__(self) -> None:
        super().__init__("too much is being uploaded at this moment")


class TooSlow(DarkroomError):
    """The request was not complete after `limit_s` seconds."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the request did not arrive within {limit_s:g} seconds", limit_s=limit_s)
        self.limit_s = limit_s


class NotFound(DarkroomError):
    """What was asked for does not exist, or does no more."""


class UnknownJob(NotFound):
    """No job has this id, or its record has expired."""

    def __init__(self, job_id: str) -> None:
        shown = str(shorten(job_id))
        super().__init__(f"there is no job {shown}", job_id=shown)
        self.job_id = shown


class UnknownImage(NotFound):
    """The store holds nothing under this key."""

    def __init__(self, key: str) -> None:
        shown = str(shorten(key))
        super().__init__(f"there is no image {shown}", key=shown)
        self.key = shown


class NotReady(DarkroomError):
    """Nothing can serve this yet; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not ready: {reason}", reason=reason)
        self.reason = reason


class QueueFull(DarkroomError):
    """`depth` jobs wait already, and no more than `limit` may.

    `retry_after_s`: until there is room for one more, by the measured rate; None: not known.
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
    """`depth` jobs of this client wait already, and no more than `limit` of one may."""

    def __init__(self, depth: int, limit: int, retry_after_s: float | None = None) -> None:
        super().__init__(depth, limit, retry_after_s)
        self.message = f"{depth} of your jobs are waiting, and at most {limit} may"


class WouldMissDeadline(DarkroomError):
    """It would wait for about `wait_s` seconds, longer than the `deadline_s` it may take in all.

    `retry_after_s`: when it would not, if nobody else came.
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
    """The worker could not make the picture; `reason` is a sentence of ours, fit for clients."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the job failed: {reason}", reason=reason)
        self.reason = reason


class JobCancelled(DarkroomError):
    """Somebody asked for the job to stop, and it did."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was cancelled", job_id=job_id)
        self.job_id = job_id


class DeadlineExceeded(DarkroomError):
    """The work took, or would take, longer than `limit_s` seconds."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"it took longer than {limit_s:g} seconds", limit_s=limit_s)
        self.limit_s = limit_s


class QueueUnavailable(DarkroomError):
    """Redis does not answer, or not as it should."""

    def __init__(self) -> None:
        super().__init__("the job queue cannot be reached")


class StoreUnavailable(DarkroomError):
    """The object store does not answer, or not as it should."""

    def __init__(self) -> None:
        super().__init__("the image store cannot be reached")


def shorten(value: object) -> JsonValue:
    """`value` as an error may show it: a JSON scalar, at most `LONGEST_VALUE` characters long."""
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) < 2**63 else "a very large number"
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            printable = "".join(
                c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value[:LONGEST_VALUE]
            )
            return printable if len(value) <= LONGEST_VALUE else f"{printable}…"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


def _kinds(root: type[DarkroomError]) -> dict[str, type[DarkroomError]]:
    """Class name to class, for `root` and everything below it."""
    below = {name: kind for child in root.__subclasses__() for name, kind in _kinds(child).items()}
    return {root.__name__: root, **below}

"""The errors of Darkroom. Their messages may be shown to a client.

    DarkroomError
    ├── InvalidRequest            the request itself is wrong: field, value, bound
    │   ├── MalformedBody         a body that cannot be parsed
    │   ├── PayloadTooLarge       more bytes than the service reads
    │   ├── UnsupportedMediaType  an unsupported content type
    │   ├── NotAcceptable         only types of response that do not exist are accepted
    │   ├── UnknownHost           a Host header with a foreign name
    │   └── ForeignOrigin         a page of another site sends it
    ├── NotFound
    │   ├── UnknownJob
    │   ├── UnknownBatch
    │   ├── UnknownModel
    │   ├── UnknownInstall
    │   ├── UnknownFile
    │   └── UnknownImage
    ├── Unauthorized              no API key, or an unknown one
    ├── Forbidden                 an API key without the scope
    ├── NotEnabled                the operator has not turned it on
    ├── RateLimited               more in a minute or day than the key allows
    ├── TooManyJobs               more jobs at once than the key allows
    ├── MalformedRequest          not HTTP/1.1
    ├── TooManyInstalls           too many installs of models have not ended
    ├── Overloaded                too many uploaded bytes at once
    ├── DecodingBusy              no memory to decode an image now
    ├── TooManyUploads            too many bodies of this client are being sent
    ├── TooManyConnections        too many connections are open
    ├── TooSlow                   the client sends its body too slowly
    ├── ServiceStopping           the service stops before the response is there
    ├── NotReady                  no worker can serve the request yet
    ├── QueueFull                 too many jobs are waiting
    │   └── ClientQueueFull       too many jobs of this client are waiting
    ├── WouldMissDeadline         its turn would come after its deadline
    ├── JobFailed                 the worker could not generate the image
    ├── JobCancelled              a client cancelled it
    ├── JobDeleted                a client deleted it
    ├── NotRetryable              it has not failed, so there is nothing to retry
    ├── InputsGone                its input images are no longer stored
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


class NotAcceptable(InvalidRequest):
    """An Accept header with no type that the response can have."""

    def __init__(
        self, field: str, value: object, bound: str, problem: str = "not-acceptable"
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


class NotEnabled(DarkroomError):
    """A part of the service that the operator has not turned on: `what` is missing."""

    def __init__(self, what: str, setting: str) -> None:
        super().__init__(f"{what} here: {setting} is off", what=what, setting=setting)
        self.what = what
        self.setting = setting


class RateLimited(DarkroomError):
    """A key over its limit of `what` a minute or a day, until `retry_after_s` has passed."""

    def __init__(self, what: str, limit: int, retry_after_s: float, per: str = "minute") -> None:
        super().__init__(
            f"this key may ask for {limit} {what} a {per}",
            what=what,
            limit=limit,
            retry_after_s=retry_after_s,
            per=per,
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


class TooManyInstalls(DarkroomError):
    """An install refused because `waiting` installs have not ended, and at most `limit` may."""

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(
            f"{waiting} installs have not ended, and at most {limit} may",
            waiting=waiting,
            limit=limit,
        )
        self.waiting = waiting
        self.limit = limit


class DecodingBusy(DarkroomError):
    """An image that waited too long for memory to decode it, because of other images."""

    def __init__(self) -> None:
        super().__init__("too many large images are being decoded at this moment")


class TooManyUploads(DarkroomError):
    """A client that is sending `limit` bodies already."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"you may send {limit} request bodies at once", limit=limit)
        self.limit = limit


class TooManyConnections(DarkroomError):
    """More than `limit` open connections, of all clients."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} connections are open", limit=limit)
        self.limit = limit


class TooSlow(DarkroomError):
    """A body that stopped arriving for `silence_s` seconds, or arrived too slowly.

    `min_rate`: bytes per second on average that are needed after the first `grace_s` seconds.
    """

    def __init__(self, silence_s: float, min_rate: int, grace_s: float) -> None:
        super().__init__(
            f"the body must not stop arriving for {silence_s:g} seconds, and after {grace_s:g} "
            f"seconds at least {min_rate} bytes a second must have arrived",
            silence_s=silence_s,
            min_rate=min_rate,
            grace_s=grace_s,
        )


class MalformedRequest(DarkroomError):
    """Bytes that are no HTTP/1.1 request; `reason` is a phrase: "its headers are too long"."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this is no valid HTTP/1.1 request: {reason}", reason=reason)


class ServiceStopping(DarkroomError):
    """The service stops while the client waits. A job that has been accepted goes on."""

    def __init__(self) -> None:
        super().__init__(
            "the service is stopping: get the job in a moment, or if `job` names none, send the "
            "request again"
        )


class NotFound(DarkroomError):
    """A missing object: it does not exist, or no longer does."""


class UnknownJob(NotFound):
    """A job id without a job, or whose record has expired."""

    def __init__(self, job_id: str) -> None:
        shown = str(shorten(job_id))
        super().__init__(f"there is no job {shown}", job_id=shown)
        self.job_id = shown


class UnknownBatch(NotFound):
    """A batch id without a batch, or whose record has expired."""

    def __init__(self, batch_id: str) -> None:
        shown = str(shorten(batch_id))
        super().__init__(f"there is no batch {shown}", batch_id=shown)
        self.batch_id = shown


class UnknownModel(NotFound):
    """The name of a model that no worker has published, in a path."""

    def __init__(self, name: str) -> None:
        shown = str(shorten(name))
        super().__init__(f"there is no model {shown}", name=shown)
        self.name = shown


class UnknownInstall(NotFound):
    """An id without an install, or one that has expired."""

    def __init__(self, install_id: str) -> None:
        shown = str(shorten(install_id))
        super().__init__(f"there is no install {shown}", install_id=shown)
        self.install_id = shown


class UnknownFile(NotFound):
    """An id without an uploaded file, or one that has expired."""

    def __init__(self, file_id: str) -> None:
        shown = str(shorten(file_id))
        super().__init__(f"there is no file {shown}", file_id=shown)
        self.file_id = shown


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


class JobDeleted(DarkroomError):
    """A job that a client deleted, and that cannot be submitted again."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was deleted", job_id=job_id)
        self.job_id = job_id


class OptionsChanged(DarkroomError):
    """The options of a client were changed after its request had been read by them."""

    def __init__(self) -> None:
        super().__init__("your options were changed meanwhile; send the request again")


class NotRetryable(DarkroomError):
    """A job that has not failed: `state` is its state."""

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(
            f"only a failed or cancelled job can be retried, and job {job_id} is {state}",
            job_id=job_id,
            state=state,
        )
        self.job_id = job_id
        self.state = state


class InputsGone(DarkroomError):
    """A job to be retried, whose input images are no longer stored."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"the input images of job {job_id} are no longer stored: send the request again",
            job_id=job_id,
        )
        self.job_id = job_id


class JobLost(DarkroomError):
    """A job whose record, or images, are gone before its client has got them.

    Redis or the store has lost its data, or a record was evicted.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"job {job_id} is lost: its record or its images are gone; send the request again",
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

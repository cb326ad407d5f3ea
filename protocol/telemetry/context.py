"""The origin of a job, for logs and traces: it does not affect the image and is not trusted."""

from contextvars import ContextVar
from typing import Annotated, Self

from pydantic import Field, ValidationError

from protocol.record import Record

REQUEST_ID = r"^[A-Za-z0-9-]{0,64}$"  # nothing that could break a log line or a header
TRACEPARENT = r"^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$"  # as W3C writes it

# The id of the HTTP request that this task or thread handles, if any.
request_id: ContextVar[str] = ContextVar("request_id", default="")


class JobContext(Record):
    """The origin of a job, stored in the `meta` of its hash.

    `request_id` is that of the HTTP request that submitted the job, `traceparent` the span of its
    submission; each is empty if there is none.
    """

    request_id: Annotated[str, Field(pattern=REQUEST_ID)] = ""
    traceparent: Annotated[str, Field(pattern=TRACEPARENT)] = ""

    @classmethod
    def read(cls, meta: bytes) -> Self:
        """Return the context in a job's `meta`; an empty one if that has another form."""
        try:
            return cls.model_validate_json(meta)
        except ValidationError:
            return cls()


NO_CONTEXT = JobContext()

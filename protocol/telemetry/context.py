"""Where a job came from, for logs and traces: never for the picture, and never to be trusted."""

from contextvars import ContextVar
from typing import Annotated, Self

from pydantic import Field, ValidationError

from protocol.record import Record

REQUEST_ID = r"^[A-Za-z0-9-]{0,64}$"  # nothing that could break a log line or a header
TRACEPARENT = r"^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$"  # as W3C writes it

# The id of the HTTP request this task or thread works for, if it works for one.
request_id: ContextVar[str] = ContextVar("request_id", default="")


class JobContext(Record):
    """Travels in the `meta` of the job's hash.

    `request_id` is that of the HTTP request that brought the job, `traceparent` the span of its
    submission; each is empty where there is none.
    """

    request_id: Annotated[str, Field(pattern=REQUEST_ID)] = ""
    traceparent: Annotated[str, Field(pattern=TRACEPARENT)] = ""

    @classmethod
    def read(cls, meta: bytes) -> Self:
        """The context in a job's `meta`; an empty one if that is not of ours."""
        try:
            return cls.model_validate_json(meta)
        except ValidationError:
            return cls()


NO_CONTEXT = JobContext()

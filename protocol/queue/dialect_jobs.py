"""Jobs that came through the API of another system, with what that API shows of them.

Such an API has an object of its own for a job, of which a part, such as the input as it was sent,
is not in our request. It is kept in the job's hash, so it lives and is deleted with the job.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field, JsonValue, ValidationError
from redis import Redis

from protocol.connection.keyspace import RQ
from protocol.connection.redis_client import redis_errors
from protocol.errors import InvalidRequest, UnknownJob
from protocol.record import Record, Text
from protocol.request.object_keys import is_job_id

MAX_BYTES = 2**18  # of an object as JSON
DIALECT_FIELD, OBJECT_FIELD = "dialect", "object"  # in the job's hash
FIELDS = ("client", "deleted", OBJECT_FIELD, "created_at", "started_at", "ended_at")


class DialectObject(Record):
    """The part of a dialect's object that is kept with a job."""

    dialect: Annotated[Text, Field(min_length=1)]
    data: dict[str, JsonValue]

    def job_fields(self) -> list[str]:
        """Return the fields of the job's hash, names and values in turn."""
        return [DIALECT_FIELD, self.dialect, OBJECT_FIELD, self.model_dump_json()]

    def check_size(self, field: str) -> None:
        """Raise `InvalidRequest`, which names `field`, if it is too large to be kept."""
        if (size := len(self.model_dump_json().encode())) > MAX_BYTES:
            bound = f"shorter: all that is kept of it, {size} bytes, is at most {MAX_BYTES}"
            raise InvalidRequest(field, f"an object of {size} bytes", bound, "too-long")


@dataclass(frozen=True)
class DialectJob:
    """A job's object, and when it was submitted, begun and ended; None: not yet, or not known."""

    id: str
    object: DialectObject
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


class DialectJobs:
    """The objects of jobs, in Redis. Raises `QueueUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def read(self, job_id: str, dialect: str, client: str | None) -> DialectJob:
        """Return a job of a dialect with its object.

        Raises UnknownJob if there is none, or if it is another client's; None is the operator, who
        can read all.
        """
        [found] = self.read_many([job_id], dialect, client)
        if found is None:
            raise UnknownJob(job_id)
        return found

    def read_many(
        self, job_ids: Sequence[str], dialect: str, client: str | None
    ) -> list[DialectJob | None]:
        """Return many in one round trip, with None for each that `read` does not find."""
        legal = [job_id for job_id in job_ids if is_job_id(job_id)]
        with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for job_id in legal:
                pipe.hmget(f"{RQ}:job:{job_id}", list(FIELDS))
            answers = dict(zip(legal, pipe.execute(), strict=True))
        found = (_read(job_id, answers.get(job_id), client) for job_id in job_ids)
        return [one if one and one.object.dialect == dialect else None for one in found]


def _read(
    job_id: str, values: Sequence[bytes | None] | None, client: str | None
) -> DialectJob | None:
    texts = [None if value is None else value.decode() for value in values or ()]
    match texts:
        case [owner, None, str() as text, *times] if client is None or owner == client:
            with suppress(ValidationError):  # of another version of Darkroom
                kept = DialectObject.model_validate_json(text)
                return DialectJob(job_id, kept, *map(_time, times))
    return None


def _time(text: str | None) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(text) if text else None
    return None

"""Lists of jobs, in pages, the newest first.

`lua/list.lua` reads an index by the time of submission, which the scripts that queue, end and
delete jobs keep. It looks at a bounded number of jobs for one page, so a page may be short, or
empty, and not the last.
"""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis

from protocol.connection.redis_client import redis_errors
from protocol.connection.scripts import PipelinedScript
from protocol.queue.job import JobState, JobView
from protocol.queue.submission import model_of, queue_name
from protocol.queue.views import STATES, read_view
from protocol.request.tasks import Task

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class JobFilter:
    """The jobs to list; None for any. The bounds of the time of submission are not included."""

    states: Collection[JobState] | None = None
    model: str | None = None
    task: Task | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    dialect: str | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the filter as `lua/list.lua` takes it."""
        wanted = self.states
        return {
            "statuses": None
            if wanted is None
            else {status.value: True for status, state in STATES.items() if state in wanted},
            "pool": None if self.model is None else queue_name(self.model),
            "task": self.task,
            "dialect": self.dialect,
            "after": _microseconds(self.created_after),
            "before": _microseconds(self.created_before),
        }


@dataclass(frozen=True)
class Place:
    """A place in the list: after the job `job_id`, submitted `at` microseconds since 1970."""

    at: int
    job_id: str


@dataclass(frozen=True)
class ListedJob:
    """A job in a list. `task` is None if it was not submitted by this version."""

    view: JobView
    model: str
    task: Task | None
    created_at: datetime


@dataclass(frozen=True)
class Page:
    """Jobs, and the place from which to go on; None at the end of the list."""

    jobs: list[ListedJob]
    end: Place | None


class JobList:
    """The jobs in Redis that can be listed. Raises `QueueUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = PipelinedScript(redis, "list")

    def page(
        self, client: str | None, jobs: JobFilter, limit: int, after: Place | None = None
    ) -> Page:
        """Return at most `limit` jobs of a client, those after a place; None: of all clients."""
        place = {"at": str(after.at), "id": after.job_id} if after else {}
        with redis_errors():
            found, end = self._script(client=client, limit=limit, **jobs.arguments(), **place)
        listed = (self._read(*one) for one in found)
        last = Place(int(end[0]), end[1].decode()) if end else None
        return Page([one for one in listed if one is not None], last)

    def _read(
        self, job_id: bytes, at: bytes, pool: bytes, task: bytes | None, view: Any
    ) -> ListedJob | None:
        read = read_view(self._redis, job_id.decode(), None, view)
        if not isinstance(read, JobView):  # of another program
            return None
        return ListedJob(
            view=read,
            model=model_of(pool.decode()),
            task=_task(task or b""),
            created_at=EPOCH + int(at) * MICROSECOND,
        )


def _task(text: bytes) -> Task | None:
    with suppress(ValueError):
        return Task(text.decode())
    return None


def _microseconds(moment: datetime | None) -> str | None:
    return None if moment is None else str((moment - EPOCH) // MICROSECOND)

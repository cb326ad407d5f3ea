"""The presence of workers: each reports its state every few seconds; without reports it is gone.

Health is a word (`WorkerState`), so a failed start is shown and not hidden behind "starting".
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationError
from redis import Redis

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.record import Float, Record, Text

WORKERS = key("workers")  # a sorted set of names; Redis expires their reports
TTL_S = 15.0


class WorkerState(StrEnum):
    """The state of a worker."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    BUSY = "busy"
    SETUP_FAILED = "setup_failed"
    STOPPING = "stopping"

    @property
    def serves(self) -> bool:
        """Return True if a job sent now would be run."""
        return self in (WorkerState.READY, WorkerState.BUSY)


class ModelState(StrEnum):
    """The state of a model in a worker: in memory, being loaded, to be loaded on demand, or
    impossible to load."""

    READY = "ready"
    LOADING = "loading"
    ON_DEMAND = "on_demand"
    FAILED = "failed"


Fraction = Annotated[Float, Field(ge=0, le=1)]


class ModelReport(Record):
    """A model of a worker: the progress of loading it, or the reason why that failed."""

    name: Text
    state: ModelState
    detail: Text = ""
    progress: Fraction | None = None


class WorkerReport(Record):
    """The report of a worker: `detail` is for people, `progress` (0..1) that of loading.

    `model` is its first model, `models` are all that it serves; a worker with only one need not
    list it.
    """

    name: Text
    state: WorkerState
    model: Text | None = None
    models: tuple[ModelReport, ...] = ()
    device: Text | None = None
    detail: Text = ""
    progress: Fraction | None = None

    @property
    def serves(self) -> tuple[str, ...]:
        """The models that it can run at once, without loading."""
        return self.models_in(ModelState.READY)

    def models_in(self, *states: ModelState) -> tuple[str, ...]:
        """Return the models in one of these states."""
        if not self.state.serves:
            return ()
        if self.model is not None and not self.models:
            return (self.model,) if ModelState.READY in states else ()
        return tuple(model.name for model in self.models if model.state in states)


class Presence:
    """The workers' reports, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis, ttl_s: float = TTL_S) -> None:
        self._redis = redis
        self._ttl_ms = int(ttl_s * 1000)

    def report(self, report: WorkerReport) -> None:
        """Store a worker's report. To be repeated well within the time to live."""
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_key(report.name), report.model_dump_json(), px=self._ttl_ms)
            pipe.zadd(WORKERS, {report.name: 0})
            pipe.execute()

    def leave(self, name: str) -> None:
        """Remove a worker at once, before its report expires."""
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(_key(name))
            pipe.zrem(WORKERS, name)
            pipe.execute()

    def workers(self) -> list[WorkerReport]:
        """Return the reports of live workers by name, and remove workers whose reports expired."""
        with redis_errors():
            names = sorted(name.decode() for name in self._redis.zrange(WORKERS, 0, -1))  # type: ignore[union-attr]
            if not names:
                return []
            found = self._redis.mget([_key(name) for name in names])
            expired = [name for name, report in zip(names, found, strict=True) if report is None]
            if expired:
                # A worker that reports at this moment is listed again with its next report.
                self._redis.zrem(WORKERS, *expired)
        return [report for text in found if text and (report := _read(text))]


def _read(text: bytes | str) -> WorkerReport | None:
    """Return a report, None for one of another version of Darkroom."""
    try:
        return WorkerReport.model_validate_json(text)
    except ValidationError:
        return None


def _key(name: str) -> str:
    return key("worker", name)

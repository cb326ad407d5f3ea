"""Who is at work: each worker says every few seconds how it is; one that stops saying so is gone.

Health is a word (`WorkerState`), so a failed start is shown and not hidden behind "starting".
"""

import time
from enum import StrEnum
from typing import Annotated

from pydantic import Field
from redis import Redis

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.record import Float, Record, Text

WORKERS = key("workers")  # a sorted set of names by the time of their last report
TTL_S = 15.0


class WorkerState(StrEnum):
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    BUSY = "busy"
    SETUP_FAILED = "setup_failed"
    STOPPING = "stopping"

    @property
    def serves(self) -> bool:
        """Whether a job sent now would be worked on."""
        return self in (WorkerState.READY, WorkerState.BUSY)


class ModelState(StrEnum):
    """What a model is to a worker: in memory, on its way there, there when it is asked for, or not
    to be loaded."""

    READY = "ready"
    LOADING = "loading"
    ON_DEMAND = "on_demand"
    FAILED = "failed"


Part = Annotated[Float, Field(ge=0, le=1)]


class ModelReport(Record):
    """One of the models that a worker may draw with: how far it is loaded, or why it cannot be."""

    name: Text
    state: ModelState
    detail: Text = ""
    progress: Part | None = None


class WorkerReport(Record):
    """One worker's word about itself: `detail` is for people, `progress` (0..1) that of loading.

    `model` is the one it began with, `models` are all that it was told to serve; a worker that has
    only one need not list it.
    """

    name: Text
    state: WorkerState
    model: Text | None = None
    models: tuple[ModelReport, ...] = ()
    device: Text | None = None
    detail: Text = ""
    progress: Part | None = None

    @property
    def serves(self) -> tuple[str, ...]:
        """The models that it would draw with at once."""
        return self.having(ModelState.READY)

    def having(self, *states: ModelState) -> tuple[str, ...]:
        """The models that are in one of these states."""
        if not self.state.serves:
            return ()
        if self.model is not None and not self.models:
            return (self.model,) if ModelState.READY in states else ()
        return tuple(model.name for model in self.models if model.state in states)


class Presence:
    """The workers' reports, in Redis. Raises `QueueUnavailable` when Redis is away."""

    def __init__(self, redis: Redis, ttl_s: float = TTL_S) -> None:
        self._redis = redis
        self._ttl_ms = int(ttl_s * 1000)

    def report(self, report: WorkerReport) -> None:
        """Say how a worker is. To be repeated within the time to live, say at a third of it."""
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_key(report.name), report.model_dump_json(), px=self._ttl_ms)
            pipe.zadd(WORKERS, {report.name: time.time()})
            pipe.execute()

    def leave(self, name: str) -> None:
        """Say goodbye, so nobody has to wait for the silence to be noticed."""
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(_key(name))
            pipe.zrem(WORKERS, name)
            pipe.execute()

    def workers(self) -> list[WorkerReport]:
        """The workers heard of lately, by name; those fallen silent are forgotten on the way."""
        with redis_errors():
            names = sorted(name.decode() for name in self._redis.zrange(WORKERS, 0, -1))  # type: ignore[union-attr]
            if not names:
                return []
            found = self._redis.mget([_key(name) for name in names])
            silent = [name for name, report in zip(names, found, strict=True) if report is None]
            if silent:
                # One that reports in this very moment is back on the list with its next report.
                self._redis.zrem(WORKERS, *silent)
        return [WorkerReport.model_validate_json(report) for report in found if report is not None]


def _key(name: str) -> str:
    return key("worker", name)

"""For which absent models jobs wait, and whether it is for this worker to load them.

One chore of a ticker: it asks Redis, which the engine's thread must not wait for, and tells what
the models are. A model that no other worker has is loaded by the first to notice; one that others
have, too, once its jobs have waited in vain for a while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Protocol

from redis import Redis

from protocol.connection.keyspace import key
from protocol.errors import DarkroomError, JobFailed
from protocol.registry.presence import ModelState, Presence, WorkerReport
from worker.model_manager.model_manager import ModelManager
from worker.settings import WorkerSettings
from worker.telemetry.heartbeat import Heartbeat
from worker.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

LOOK_S = 0.25
TURN_S = 5.0  # for which others leave a model to whoever was first to notice


class Waiting(Protocol):
    """The queue, as far as jobs are concerned that cannot be taken yet."""

    def waiting_counts(self, loading: Mapping[str, float | None]) -> dict[str, int]: ...
    def fail_waiting(self, model: str, error: DarkroomError) -> list[str]: ...


class LoadRequests:
    """`look` is to be called every `LOOK_S`; it raises what redis-py raises, and
    QueueUnavailable."""

    def __init__(
        self,
        shelf: ModelManager,
        queue: Waiting,
        redis: Redis,
        announcer: Heartbeat,
        name: str,
        settings: WorkerSettings,
        metrics: Metrics,
    ) -> None:
        """`name` is the worker's."""
        self._shelf = shelf
        self._queue = queue
        self._redis = redis
        self._presence = Presence(redis)
        self._announcer = announcer
        self._name = name
        self._patience_s = settings.worker_model_patience_s
        self._metrics = metrics
        self._since: dict[str, float] = {}

    def look(self) -> None:
        """See who waits, tell them how far the loading is, and tell of the models."""
        self._announcer.tell_models(self._shelf.reports())
        absent = self._shelf.absent
        if not absent and not self._since:
            return
        now = time.monotonic()
        waiting = [name for name, jobs in self._queue.waiting_counts(absent).items() if jobs]
        self._since = {name: self._since.get(name, now) for name in waiting}
        others = self._others() if waiting else []
        broken = self._shelf.broken
        for name in waiting:
            if name in broken and not _offered(name, others):
                self._give_up(name, broken[name])
        self._shelf.waiting = {
            name: now - since
            for name, since in self._since.items()
            if name not in broken and self._is_ours(name, now - since, others)
        }

    def _others(self) -> list[WorkerReport]:
        return [report for report in self._presence.workers() if report.name != self._name]

    def _is_ours(self, name: str, waited_s: float, others: list[WorkerReport]) -> bool:
        if _has(name, ModelState.LOADING, others):
            return False
        if _has(name, ModelState.READY, others) and waited_s < self._patience_s:
            return False
        turn = key("loads", name)
        # Two workers that notice at once must not both make room for it.
        if self._redis.set(turn, self._name, nx=True, px=round(1000 * TURN_S)):
            return True
        return self._redis.get(turn) == self._name.encode()

    def _give_up(self, name: str, reason: str) -> None:
        failed = self._queue.fail_waiting(
            name, JobFailed(f"the model {name} cannot be loaded: {reason}")
        )
        self._metrics.failures.labels(JobFailed.__name__).inc(len(failed))
        logger.warning("jobs of a broken model failed", extra={"model": name, "jobs": len(failed)})


def _has(name: str, state: ModelState, others: list[WorkerReport]) -> bool:
    return any(
        model.name == name and model.state is state for other in others for model in other.models
    )


def _offered(name: str, others: list[WorkerReport]) -> bool:
    """Whether another worker has it, or may yet."""
    states = (ModelState.READY, ModelState.LOADING, ModelState.ON_DEMAND)
    return any(_has(name, state, others) for state in states)

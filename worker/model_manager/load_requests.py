"""Finds the models that jobs wait for, and decides which of them this worker loads.

A periodic task, because it calls Redis, for which the engine's thread must not wait. A model that
no other worker has is loaded by the first worker that finds waiting jobs; a model that others have
is loaded when its jobs have waited for a while nevertheless.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from redis import Redis

from protocol.connection.keyspace import key
from protocol.errors import DarkroomError, JobFailed
from protocol.registry.model_commands import Action, ModelCommands
from protocol.registry.presence import ModelState, WorkerReport
from worker.model_manager.model_manager import ModelManager
from worker.telemetry.heartbeat import Heartbeat
from worker.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 0.25
LOCK_S = 5.0  # for which a model is reserved for the worker that found its jobs first
USABLE = (ModelState.READY, ModelState.LOADING, ModelState.ON_DEMAND)


class WaitingJobs(Protocol):
    """The part of the queue with the jobs of absent models."""

    def waiting_counts(self, loading: Mapping[str, float | None]) -> dict[str, int]: ...
    def fail_waiting(self, model: str, error: DarkroomError) -> list[str]: ...


@dataclass
class LoadRequests:
    """The models with waiting jobs, and since when they wait.

    `check` raises what redis-py raises, and QueueUnavailable.
    """

    manager: ModelManager
    queue: WaitingJobs
    redis: Redis
    heartbeat: Heartbeat
    metrics: Metrics
    patience_s: float
    _since: dict[str, float] = field(default_factory=dict)
    _obeyed: dict[str, str] | None = None  # the last command of each model, by its id

    def check(self) -> None:
        """Publish the models' states and the loading progress, and update what is to be loaded."""
        # First, so that a command by someone who has seen the report is not from before the start.
        self._obey_commands()
        self.heartbeat.update_models(self.manager.reports())
        absent = self.manager.absent
        if not absent and not self._since:
            return
        now = time.monotonic()
        waiting = [name for name, jobs in self.queue.waiting_counts(absent).items() if jobs]
        self._since = {name: self._since.get(name, now) for name in waiting}
        others = self.heartbeat.other_workers() if waiting else []
        broken = self.manager.broken
        for name in waiting:
            if name in broken and not _has(name, others, *USABLE):
                self._fail_jobs(name, broken[name])
        self.manager.waiting = {
            name: now - since
            for name, since in self._since.items()
            if name not in broken and self._is_ours(name, now - since, others)
        }

    def _obey_commands(self) -> None:
        """Hand new commands to the manager; those given before the start are not for this worker.

        Of several workers, one loads a model.
        """
        commands = ModelCommands(self.redis).all()
        obeyed = self._obeyed
        self._obeyed = {name: command.id for name, command in commands.items()}
        if obeyed is None:
            return
        for name, command in commands.items():
            if obeyed.get(name) != command.id and self._is_for_us(name, command.action):
                logger.info("model command", extra={"model": name, "action": command.action})
                self.manager.command(name, command.action)

    def _is_for_us(self, name: str, action: Action) -> bool:
        if name not in self.manager.names:
            return False
        return action is Action.UNLOAD or self._is_ours(name, 0.0, self.heartbeat.other_workers())

    def _is_ours(self, name: str, waited_s: float, others: list[WorkerReport]) -> bool:
        if _has(name, others, ModelState.LOADING):
            return False
        if _has(name, others, ModelState.READY) and waited_s < self.patience_s:
            return False
        lock, worker = key("loads", name), self.heartbeat.worker
        # Two workers that find the jobs at once must not both make room for the model.
        if self.redis.set(lock, worker, nx=True, px=round(1000 * LOCK_S)):
            return True
        return self.redis.get(lock) == worker.encode()

    def _fail_jobs(self, name: str, reason: str) -> None:
        error = JobFailed(f"the model {name} cannot be loaded: {reason}")
        failed = self.queue.fail_waiting(name, error)
        self.metrics.failures.labels(JobFailed.__name__).inc(len(failed))
        logger.warning("jobs of a broken model failed", extra={"model": name, "jobs": len(failed)})


def _has(name: str, others: list[WorkerReport], *states: ModelState) -> bool:
    return any(
        model.name == name and model.state in states for other in others for model in other.models
    )

"""Batching policies of servers without step-level batching, on top of the same engine.

Each implements `worker.interfaces.Engine`. Jobs can join only at the start of a batch.

    serial          one job after another
    request-level   a batch starts when `size` jobs wait, or the first has waited for `timeout_s`;
                    no job joins until all of them are done (the rule of MLPerf's record holders)
    step-level      Darkroom's own: a new job joins at the next step

A job that is done before its batch is delivered at once, which is better than such servers do.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from worker.interfaces import AdmittedJob, Engine, EngineStats

POLL_S = 0.002  # interval at which a batch that is not full is checked again


class RequestLevel(Engine):
    """Request-level batching: a batch starts at its size or at the time-out, whichever is first."""

    def __init__(self, engine: Engine, size: int, timeout_s: float) -> None:
        self._engine = engine
        self._size = size
        self._timeout_s = timeout_s
        self._waiting: list[AdmittedJob] = []
        self._first_at = 0.0

    @property
    def free_slots(self) -> int:
        return self._size - len(self._waiting) if self._engine.idle else 0

    @property
    def idle(self) -> bool:
        return not self._waiting and self._engine.idle

    @property
    def stats(self) -> EngineStats:
        return self._engine.stats

    def admit(self, job: AdmittedJob) -> None:
        if not self._waiting:
            self._first_at = time.monotonic()
        self._waiting.append(job)

    def cancel(self, job_id: str) -> None:
        self._waiting = [job for job in self._waiting if job.id != job_id]
        self._engine.cancel(job_id)

    def step(self) -> None:
        if self._waiting and self._engine.idle:
            if not self._due():
                time.sleep(POLL_S)
                return
            for job in self._waiting:
                self._engine.admit(job)
            self._waiting = []
        self._engine.step()

    def _due(self) -> bool:
        waited = time.monotonic() - self._first_at
        return len(self._waiting) >= self._size or waited >= self._timeout_s


SERIAL, REQUEST_LEVEL, STEP_LEVEL = "serial", "request-level", "step-level"


def policy(name: str, size: int, timeout_s: float) -> Callable[[Engine], Engine]:
    """Return the policy called `name`, which wraps an engine of `size` slots."""
    match name:
        case "serial":
            return lambda engine: RequestLevel(engine, 1, 0.0)
        case "request-level":
            return lambda engine: RequestLevel(engine, size, timeout_s)
        case "step-level":
            return lambda engine: engine
        case _:
            raise ValueError(f"policy is {name!r}")

"""Other ways to batch, put before the same engine: what a server without step-level batching does.

Each is a `worker.interfaces.Engine`. They let jobs join only at the start of a batch.

    serial          one job after another
    request-level   a batch begins when `size` jobs wait, or the first has waited for `patience_s`;
                    nobody joins until all of them are done (the rule of MLPerf's record holders)
    step-level      ours: whoever comes joins at the next step

A job that is done earlier than its batch is delivered at once, which is more than such servers do.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from worker.interfaces import AdmittedJob, Engine, EngineStats

LOOK_EVERY_S = 0.002  # how often a batch that is not full yet looks for more


class RequestLevel(Engine):
    """Size or time-out, whichever comes first."""

    def __init__(self, engine: Engine, size: int, patience_s: float) -> None:
        self._engine = engine
        self._size = size
        self._patience_s = patience_s
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
                time.sleep(LOOK_EVERY_S)
                return
            for job in self._waiting:
                self._engine.admit(job)
            self._waiting = []
        self._engine.step()

    def _due(self) -> bool:
        waited = time.monotonic() - self._first_at
        return len(self._waiting) >= self._size or waited >= self._patience_s


SERIAL, REQUEST_LEVEL, STEP_LEVEL = "serial", "request-level", "step-level"


def policy(name: str, size: int, patience_s: float) -> Callable[[Engine], Engine]:
    """The policy called `name`, as something to put before an engine of `size` slots."""
    match name:
        case "serial":
            return lambda engine: RequestLevel(engine, 1, 0.0)
        case "request-level":
            return lambda engine: RequestLevel(engine, size, patience_s)
        case "step-level":
            return lambda engine: engine
        case _:
            raise ValueError(f"policy is {name!r}")

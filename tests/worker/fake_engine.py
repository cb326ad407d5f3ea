"""An engine without a network: flat images, and faults on request.

A job's prompt determines its behaviour: "poison" ends the process, "break" raises, "refuse" is
refused at admission; any other is generated.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from protocol.errors import JobFailed
from protocol.queue.job import Timings
from worker.interfaces import AdmittedJob, Engine, EngineStats

TIMINGS = Timings(encode=0.1, denoise=0.2, decode=0.3)


@dataclass
class FakeRun:
    job: AdmittedJob
    step: int = 0


class FakeEngine(Engine):
    """Steps all admitted jobs together; `before_step` is called first, with the jobs' ids."""

    def __init__(
        self,
        slots: int = 8,
        step_s: float = 0.0,
        before_step: Callable[[list[str]], None] = lambda ids: None,
        timings: Timings = TIMINGS,
    ) -> None:
        self._slots = slots
        self._step_s = step_s
        self._before_step = before_step
        self._timings = timings
        self._runs: dict[str, FakeRun] = {}
        self.admitted: list[str] = []

    @property
    def free_slots(self) -> int:
        return max(0, self._slots - sum(run.job.request.n for run in self._runs.values()))

    @property
    def idle(self) -> bool:
        return not self._runs

    @property
    def stats(self) -> EngineStats:
        rows = len(self._runs)
        return EngineStats(images=max(1, rows), rows=rows, rows_run=rows)

    def admit(self, job: AdmittedJob) -> None:
        if job.request.prompt == "refuse":
            raise JobFailed("the engine does not want it")
        assert job.id not in self._runs
        self._runs[job.id] = FakeRun(job)
        self.admitted.append(job.id)

    def cancel(self, job_id: str) -> None:
        self._runs.pop(job_id, None)

    def step(self) -> None:
        self._before_step(list(self._runs))
        time.sleep(self._step_s)
        for job_id, run in list(self._runs.items()):
            self._advance(job_id, run)

    def _advance(self, job_id: str, run: FakeRun) -> None:
        request = run.job.request
        if request.prompt == "poison":
            os._exit(9)
        if request.prompt == "break":
            raise RuntimeError("a fake fault")
        run.step += 1
        run.job.listener.on_progress(run.step, request.steps)
        if run.step == request.steps:
            del self._runs[job_id]
            self._deliver(run.job)

    def _deliver(self, job: AdmittedJob) -> None:
        for index in range(job.request.n):
            seed = job.request.image_seed(index)
            shape = (job.request.height, job.request.width, 3)
            pixels = np.full(shape, seed % 256, dtype=np.uint8)
            job.listener.on_image(index, pixels, seed)
        job.listener.on_done(self._timings)

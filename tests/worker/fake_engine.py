"""An engine without a network: flat pictures, and misbehaviour on request.

What a job does is written in its prompt: "poison" ends the process, "break" raises, "refuse" is
refused at the door; anything else is drawn.
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
class Drawn:
    job: AdmittedJob
    step: int = 0


class FakeEngine(Engine):
    """Steps every admitted job at once; `before_step` is called first, with the jobs' ids."""

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
        self._drawn: dict[str, Drawn] = {}
        self.admitted: list[str] = []

    @property
    def free_slots(self) -> int:
        return max(0, self._slots - sum(drawn.job.request.n for drawn in self._drawn.values()))

    @property
    def idle(self) -> bool:
        return not self._drawn

    @property
    def stats(self) -> EngineStats:
        rows = len(self._drawn)
        return EngineStats(images=max(1, rows), rows=rows, rows_run=rows)

    def admit(self, job: AdmittedJob) -> None:
        if job.request.prompt == "refuse":
            raise JobFailed("the engine does not want it")
        assert job.id not in self._drawn
        self._drawn[job.id] = Drawn(job)
        self.admitted.append(job.id)

    def cancel(self, job_id: str) -> None:
        self._drawn.pop(job_id, None)

    def step(self) -> None:
        self._before_step(list(self._drawn))
        time.sleep(self._step_s)
        for job_id, drawn in list(self._drawn.items()):
            self._advance(job_id, drawn)

    def _advance(self, job_id: str, drawn: Drawn) -> None:
        request = drawn.job.request
        if request.prompt == "poison":
            os._exit(9)
        if request.prompt == "break":
            raise RuntimeError("a fake fault")
        drawn.step += 1
        drawn.job.listener.on_progress(drawn.step, request.steps)
        if drawn.step == request.steps:
            del self._drawn[job_id]
            self._hand_over(drawn.job)

    def _hand_over(self, job: AdmittedJob) -> None:
        for index in range(job.request.n):
            seed = job.request.image_seed(index)
            shape = (job.request.height, job.request.width, 3)
            pixels = np.full(shape, seed % 256, dtype=np.uint8)
            job.listener.on_image(index, pixels, seed)
        job.listener.on_done(self._timings)

"""A worker without a model whose steps take a given time.

python -m bench.simulation.paced_worker STEP_SECONDS
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from functools import partial

from bench.common import null_worker
from bench.common.null_worker import NullEngine
from worker.interfaces import AdmittedJob


class PacedEngine(NullEngine):
    """An engine that runs the requested steps of every job, of `step_s` seconds each."""

    def __init__(self, slots: int, step_s: float) -> None:
        super().__init__(slots)
        self._step_s = step_s
        self._steps: Counter[str] = Counter()

    def step(self) -> None:
        time.sleep(self._step_s)
        unfinished: list[AdmittedJob] = []
        for job in self._jobs:
            self._steps[job.id] += 1
            if self._steps[job.id] < job.request.steps:
                job.listener.on_progress(self._steps[job.id], job.request.steps)
                unfinished.append(job)
        self._jobs = [job for job in self._jobs if job not in unfinished]
        super().step()
        self._jobs = unfinished


if __name__ == "__main__":
    sys.exit(null_worker.main(partial(PacedEngine, step_s=float(sys.argv[1]))))

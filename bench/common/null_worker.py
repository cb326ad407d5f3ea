"""A worker with the real consumer, leases and output processor, but without a model.

    python -m bench.common.null_worker

Every image is the same 64 × 64 gradient and is ready at once. The latency with this worker is the
overhead of HTTP, queue, encoding and store.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.text.tokenizer import Tokenizer
from protocol.connection.redis_client import connect
from protocol.queue.job import Timings
from protocol.registry.presence import Presence
from protocol.request.model_card import ModelCard
from protocol.startup import exit_status, read_settings
from worker.consumer.context import WorkerContext
from worker.interfaces import AdmittedJob, Engine, EngineStats, OneModel, Pixels
from worker.periodic_runner import PeriodicRunner, PeriodicTask
from worker.serve import serve
from worker.settings import WorkerSettings
from worker.telemetry.heartbeat import INTERVAL_S, Heartbeat
from worker.telemetry.metrics import Metrics

TOKENIZER = Path(__file__).parents[2] / "models/bundled/tokenizer"
SIDE = 64
CARD = ModelCard(
    name="null",
    family="null",
    default_width=SIDE,
    default_height=SIDE,
    min_side=SIDE,
    max_side=SIDE,
    max_pixels=SIDE * SIDE,
    samplers=("ddim",),
    schedules=("leading",),
    default_sampler="ddim",
    default_schedule="leading",
)


class NullEngine(Engine):
    """An engine that finishes every job in its next step."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._jobs: list[AdmittedJob] = []
        self._pixels = _gradient()
        self._stats = EngineStats()

    @property
    def free_slots(self) -> int:
        return max(0, self._slots - len(self._jobs))

    @property
    def idle(self) -> bool:
        return not self._jobs

    @property
    def stats(self) -> EngineStats:
        return self._stats

    def admit(self, job: AdmittedJob) -> None:
        self._jobs.append(job)

    def cancel(self, job_id: str) -> None:
        self._jobs = [job for job in self._jobs if job.id != job_id]

    def step(self) -> None:
        jobs, self._jobs = self._jobs, []
        rows = len(jobs)
        self._stats = EngineStats(images=max(1, rows), rows=rows, rows_run=rows)
        for job in jobs:
            steps = job.request.steps
            job.listener.on_progress(steps, steps)
            for index in range(job.request.n):
                job.listener.on_image(index, self._pixels, job.request.image_seed(index))
            job.listener.on_done(Timings())


def _gradient() -> Pixels:
    ramp = np.linspace(0, 255, SIDE, dtype=np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return np.stack([red, green, 255 - red], axis=-1)


def main(make_engine: Callable[[int], Engine] = NullEngine) -> int:
    settings = read_settings(WorkerSettings)
    tokenizer = Tokenizer.from_folder(TOKENIZER).to_json()
    name = f"null-{os.getpid()}"
    metrics = Metrics()
    with connect(settings.redis_url, metrics.meters.redis) as redis:
        heartbeat = Heartbeat(Presence(redis), name)
        heartbeat.update(model=CARD.name)
        with PeriodicRunner(PeriodicTask(INTERVAL_S, heartbeat.send)):
            engine = make_engine(settings.worker_slots)
            models = OneModel(CARD.name)
            context = WorkerContext.open(settings, redis, models, engine, metrics)
            status = serve(redis, name, context, lambda: [(CARD, tokenizer)], heartbeat)
        heartbeat.leave()
    return status


if __name__ == "__main__":
    sys.exit(exit_status("worker", main))

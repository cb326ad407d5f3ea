"""A worker program that is real except for its engine and GPU.

    python -m tests.observability.fake_gpu_worker

It is ready at once. The prompt of a job selects a fault of the engine (see
`tests.worker.fake_engine`), and "hang" makes a step hang. The GPU memory is full while the file
GPU_IS_FULL exists.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from protocol.connection.redis_client import connect
from protocol.queue.job import Timings
from protocol.registry.presence import Presence
from protocol.telemetry.logs import start_logging
from protocol.telemetry.setup import start_tracing
from tests.observability.alert_model import CARD, word_tokenizer
from tests.observability.fake_nvml import FakeNvml
from tests.worker.fake_engine import FakeEngine, FakeRun
from worker.consumer.context import WorkerContext
from worker.interfaces import EngineStats, OneModel
from worker.periodic_runner import PeriodicRunner, PeriodicTask
from worker.serve import serve
from worker.settings import WorkerSettings
from worker.telemetry.gpu import GpuCollector
from worker.telemetry.heartbeat import INTERVAL_S, Heartbeat
from worker.telemetry.metrics import Metrics

STEP_S = 0.01
HANG_S = 6.0


class FaultyEngine(FakeEngine):
    """A fake engine that can hang, and reports statistics in which every second row is padding."""

    def __init__(self) -> None:
        super().__init__(step_s=STEP_S, timings=Timings())
        self._steps = 0

    @property
    def stats(self) -> EngineStats:
        rows = max(1, len(self._runs))
        return EngineStats(
            images=rows,
            rows=rows,
            rows_run=2 * rows,
            width=64,
            height=64,
            cache_hits=self._steps,
            cache_misses=1,
            decoded_again=1,
        )

    def _advance(self, job_id: str, run: FakeRun) -> None:
        self._steps += 1
        if run.job.request.prompt == "hang" and run.step == 0:
            time.sleep(HANG_S)
        super()._advance(job_id, run)


def main() -> int:
    settings = WorkerSettings()
    start_logging(settings)
    metrics = Metrics()
    full = Path(os.environ["GPU_IS_FULL"])
    metrics.registry.register(GpuCollector(FakeNvml(full.exists), FakeNvml.UUID))
    tracing = start_tracing("worker", settings.otlp_endpoint)
    name = f"fake-{os.getpid()}"
    with connect(settings.redis_url, metrics.meters.redis) as redis:
        heartbeat = Heartbeat(Presence(redis), name)
        heartbeat.update(model=CARD.name)
        with PeriodicRunner(PeriodicTask(INTERVAL_S, heartbeat.send)):
            context = WorkerContext.open(
                settings, redis, OneModel(CARD.name), FaultyEngine(), metrics, tracing
            )
            status = serve(redis, name, context, lambda: [(CARD, word_tokenizer())], heartbeat)
        heartbeat.leave()
    return status


if __name__ == "__main__":
    sys.exit(main())

"""What Prometheus may know about a worker. Labels are words of ours, never a client's."""

import logging
import math
from collections import Counter as TallyOf
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from protocol.queue.job import JobResult, JobState
from protocol.telemetry.metrics import Meters
from worker.interfaces import EngineStats

logger = logging.getLogger(__name__)

STEP_BUCKETS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0, 30.0, 60.0)
# Seconds, up to twenty minutes.
PHASE_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
SHAPES_PX = 64  # sizes are told in steps of so many pixels

# Why a job went back to the queue.
WORKER_DIED, ENGINE_FAILED, HANDED_BACK = "worker-died", "engine-failed", "handed-back"


class Metrics:
    """The counters of one worker, in a registry of their own."""

    def __init__(self) -> None:
        # A second line for each counter, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.meters = Meters(registry)
        ProcessCollector(registry=registry)
        self.images = Counter("darkroom_worker_images", "Pictures delivered.", registry=registry)
        self.jobs = Counter(
            "darkroom_worker_jobs",
            "Jobs that left this worker, by what became of them.",
            ["state"],
            registry=registry,
        )
        self.failures = Counter(
            "darkroom_worker_failures",
            "Jobs failed, by kind of error.",
            ["reason"],
            registry=registry,
        )
        self.retries = Counter(
            "darkroom_worker_retries",
            "Jobs put back into the queue, by why.",
            ["reason"],
            registry=registry,
        )
        self.queue_wait = Histogram(
            "darkroom_queue_wait_seconds",
            "How long jobs waited until a worker took them.",
            ["priority"],
            buckets=PHASE_BUCKETS,
            registry=registry,
        )
        self.step_seconds = Histogram(
            "darkroom_worker_step_seconds",
            "Duration of a step of the batch; its count is the number of steps.",
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "darkroom_worker_batch_rows",
            "Rows of the network per step, padding included. Shape: the side in pixels of a square "
            f"as large as the pictures, up to the next multiple of {SHAPES_PX}.",
            ["shape"],
            buckets=ROW_BUCKETS,
            registry=registry,
        )
        self.rows = Counter(
            "darkroom_worker_rows", "Rows of the network that were run.", registry=registry
        )
        self.padding = Counter(
            "darkroom_worker_padding_rows",
            "Rows that were run for nobody, to make up a shape.",
            registry=registry,
        )
        self.picture_steps = Counter(
            "darkroom_worker_picture_steps",
            "Denoising steps of pictures: a step of a batch counts once for each of them.",
            registry=registry,
        )
        self.phase_seconds = Histogram(
            "darkroom_worker_phase_seconds",
            "Duration of the phases of finished jobs.",
            ["phase"],
            buckets=PHASE_BUCKETS,
            registry=registry,
        )
        self.held = Gauge("darkroom_worker_held_jobs", "Jobs held now.", registry=registry)
        self.fenced = Counter(
            "darkroom_worker_fenced",
            "Endings refused because the lease was lost.",
            registry=registry,
        )
        self.models = Gauge("darkroom_worker_models", "Models in memory.", registry=registry)
        self.model_bytes = Gauge(
            "darkroom_worker_model_bytes",
            "Bytes of weights in memory, or on their way there.",
            registry=registry,
        )
        self.model_loads = Counter(
            "darkroom_worker_model_loads",
            "Models loaded since the start, and tries that failed.",
            ["outcome"],
            registry=registry,
        )
        self.model_evictions = Counter(
            "darkroom_worker_model_evictions",
            "Models let go of: for another, or because nobody asked for them.",
            registry=registry,
        )
        self._ended: TallyOf[JobState] = TallyOf()
        self._worked_s = 0.0
        for reason in (WORKER_DIED, ENGINE_FAILED, HANDED_BACK):  # told from the start, as 0
            self.retries.labels(reason)
        for outcome in ("loaded", "failed"):
            self.model_loads.labels(outcome)
        for state in ("finished", "failed", "cancelled", "queued"):
            self.jobs.labels(state)

    def left(self, state: JobState) -> None:
        """A job left this worker."""
        self.jobs.labels(state).inc()
        self._ended[state] += 1

    def delivered(self, result: JobResult) -> None:
        """A job has finished; every one of its pictures is stored."""
        self.images.inc(len(result.images))
        for phase, seconds in result.timings:
            self.phase_seconds.labels(phase).observe(seconds)
        self._worked_s += result.timings.total - result.timings.queued

    @property
    def for_rq(self) -> list[str | float]:
        """The counts that RQ keeps of each worker, each after its name."""
        counts: dict[str, float] = {
            "successful_job_count": self._ended[JobState.FINISHED],
            "failed_job_count": self._ended[JobState.FAILED],
            "total_working_time": round(self._worked_s, 3),
        }
        return [part for count in counts.items() for part in count]

    def stepped(self, seconds: float, stats: EngineStats) -> None:
        """A call of the engine took so long; `stats` are the engine's after it."""
        if stats.images == 0:
            return
        self.step_seconds.observe(seconds if stats.step_s is None else stats.step_s)
        self.batch_rows.labels(shape_label(stats.width, stats.height)).observe(stats.rows_run)
        self.rows.inc(stats.rows_run)
        self.padding.inc(stats.rows_run - stats.rows)
        self.picture_steps.inc(stats.images)

    def serve(self, host: str, port: int) -> WSGIServer | None:
        """Answer GET /metrics from a thread, until `shutdown` is called on what is returned.

        If the port is taken, by another worker say, there is a warning, and nothing is returned.
        """
        try:
            server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            where = {"host": host, "port": port, "error": type(error).__name__}
            logger.warning("metrics are not served", extra=where)
            return None
        return server


def shape_label(width: int, height: int) -> str:
    """A word for a size, of which there are few whatever clients ask for."""
    side = math.sqrt(width * height)
    return str(math.ceil(side / SHAPES_PX) * SHAPES_PX)

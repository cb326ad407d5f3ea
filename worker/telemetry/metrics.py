"""Prometheus metrics of a worker. Label values are constants, never text of a client."""

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
from protocol.telemetry.metrics import BackendMetrics
from worker.interfaces import EngineStats

logger = logging.getLogger(__name__)

STEP_BUCKETS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0, 30.0, 60.0)
# Seconds, up to twenty minutes.
PHASE_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
SHAPES_PX = 64  # sizes are rounded up to multiples of so many pixels

# Reasons why a job went back to the queue.
WORKER_DIED, ENGINE_FAILED, HANDED_BACK = "worker-died", "engine-failed", "handed-back"


class Metrics:
    """The metrics of one worker, in a separate registry."""

    def __init__(self) -> None:
        # The creation time of each counter, which no dashboard uses.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.meters = BackendMetrics(registry)
        ProcessCollector(registry=registry)
        self.images = Counter("darkroom_worker_images", "Images delivered.", registry=registry)
        self.jobs = Counter(
            "darkroom_worker_jobs",
            "Jobs that left this worker, by final state.",
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
            "Jobs put back into the queue, by reason.",
            ["reason"],
            registry=registry,
        )
        self.queue_wait = Histogram(
            "darkroom_queue_wait_seconds",
            "Time that jobs waited until a worker claimed them.",
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
            f"as large as the images, rounded up to a multiple of {SHAPES_PX}.",
            ["shape"],
            buckets=ROW_BUCKETS,
            registry=registry,
        )
        self.rows = Counter(
            "darkroom_worker_rows", "Rows of the network that were run.", registry=registry
        )
        self.padding = Counter(
            "darkroom_worker_padding_rows",
            "Rows that were run as padding, to fill a batch shape.",
            registry=registry,
        )
        self.image_steps = Counter(
            "darkroom_worker_image_steps",
            "Denoising steps of images: a step of a batch counts once for each of its images.",
            registry=registry,
        )
        self.phase_seconds = Histogram(
            "darkroom_worker_phase_seconds",
            "Duration of the phases of finished jobs.",
            ["phase"],
            buckets=PHASE_BUCKETS,
            registry=registry,
        )
        self.held = Gauge("darkroom_worker_held_jobs", "Jobs that run now.", registry=registry)
        self.fenced = Counter(
            "darkroom_worker_fenced",
            "Results refused because the lease was lost.",
            registry=registry,
        )
        self.models = Gauge("darkroom_worker_models", "Models in memory.", registry=registry)
        self.model_bytes = Gauge(
            "darkroom_worker_model_bytes",
            "Bytes of weights in memory or being loaded.",
            registry=registry,
        )
        self.model_loads = Counter(
            "darkroom_worker_model_loads",
            "Attempts to load a model since the start, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.model_evictions = Counter(
            "darkroom_worker_model_evictions",
            "Models evicted, for another model or because they were idle.",
            registry=registry,
        )
        self._ended: TallyOf[JobState] = TallyOf()
        self._worked_s = 0.0
        for reason in (WORKER_DIED, ENGINE_FAILED, HANDED_BACK):  # reported as 0 from the start
            self.retries.labels(reason)
        for outcome in ("loaded", "failed"):
            self.model_loads.labels(outcome)
        for state in ("finished", "failed", "cancelled", "queued"):
            self.jobs.labels(state)

    def left(self, state: JobState) -> None:
        """Count a job that left this worker."""
        self.jobs.labels(state).inc()
        self._ended[state] += 1

    def delivered(self, result: JobResult) -> None:
        """Count the images and phases of a finished job, whose images are all stored."""
        self.images.inc(len(result.images))
        for phase, seconds in result.timings:
            self.phase_seconds.labels(phase).observe(seconds)
        self._worked_s += result.timings.total - result.timings.queued

    @property
    def for_rq(self) -> list[str | float]:
        """The counts that RQ keeps of each worker, as a flat list of names and values."""
        counts: dict[str, float] = {
            "successful_job_count": self._ended[JobState.FINISHED],
            "failed_job_count": self._ended[JobState.FAILED],
            "total_working_time": round(self._worked_s, 3),
        }
        return [part for count in counts.items() for part in count]

    def stepped(self, seconds: float, stats: EngineStats) -> None:
        """Count a step of the engine that took `seconds`; `stats` are the engine's after it."""
        if stats.images == 0:
            return
        self.step_seconds.observe(seconds if stats.step_s is None else stats.step_s)
        self.batch_rows.labels(shape_label(stats.width, stats.height)).observe(stats.rows_run)
        self.rows.inc(stats.rows_run)
        self.padding.inc(stats.rows_run - stats.rows)
        self.image_steps.inc(stats.images)

    def serve(self, host: str, port: int) -> WSGIServer | None:
        """Serve GET /metrics from a thread until `shutdown` is called on the returned server.

        If the port is taken, for example by another worker, log a warning and return None.
        """
        try:
            server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            fields = {"host": host, "port": port, "error": type(error).__name__}
            logger.warning("metrics are not served", extra=fields)
            return None
        return server


def shape_label(width: int, height: int) -> str:
    """Return the side of the square of the same area, rounded up, so that there are few labels."""
    side = math.sqrt(width * height)
    return str(math.ceil(side / SHAPES_PX) * SHAPES_PX)

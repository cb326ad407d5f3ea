"""What Prometheus may know about a worker. Labels are words of ours, never a client's."""

import logging
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

logger = logging.getLogger(__name__)

STEP_BUCKETS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
PHASE_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one worker, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
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
        self.step_seconds = Histogram(
            "darkroom_worker_step_seconds",
            "Duration of a step of the batch; its count is the number of steps.",
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "darkroom_worker_batch_rows",
            "Rows of the network per step.",
            buckets=ROW_BUCKETS,
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
        self.reaped = Counter(
            "darkroom_worker_reaped", "Jobs taken back from dead workers.", registry=registry
        )
        self.fenced = Counter(
            "darkroom_worker_fenced",
            "Endings refused because the lease was lost.",
            registry=registry,
        )

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

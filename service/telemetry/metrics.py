"""What Prometheus is told by the service. Labels are words of ours, never a client's.

Counters and histograms are filled in as things happen; what stands in Redis is counted when
Prometheus asks (`service.telemetry.queue_stats_collector`), and every API process then tells the
same.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from protocol.telemetry.metrics import BackendMetrics

# Seconds; a request that waits for its pictures may take up to twenty minutes.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
# Told from the start, as 0: a rate does not see the first of what did not exist before.
PROBLEMS = (
    "client-queue-full",
    "internal",
    "overloaded",
    "queue-full",
    "rate-limited",
    "too-many-jobs",
    "would-miss-deadline",
)


class Metrics:
    """The service's figures, in a registry of their own."""

    def __init__(self) -> None:
        # A second line for each counter, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.meters = BackendMetrics(registry)
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "darkroom_http_requests",
            "Requests answered; status none: the client left before.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "darkroom_http_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ("route",),
            buckets=BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "darkroom_http_requests_in_flight", "Requests being answered now.", registry=registry
        )
        self.problems = Counter(
            "darkroom_http_problems",
            "Requests refused or failed, by the last part of their problem's type.",
            ("problem",),
            registry=registry,
        )
        self.loop_lag = Histogram(
            "darkroom_event_loop_lag_seconds",
            "How late the event loop comes to what was due, looked at twice a second.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        for problem in PROBLEMS:
            self.problems.labels(problem)

    def text(self) -> bytes:
        """Everything in Prometheus' format. Blocks: what is counted in Redis is asked for now."""
        return generate_latest(self.registry)

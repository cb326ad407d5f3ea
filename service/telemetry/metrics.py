"""Prometheus metrics of the service. No label value is chosen by a client.

Counters and histograms are updated as events happen. Figures from Redis are read when Prometheus
scrapes (`service.telemetry.queue_stats_collector`), so they are the same in every API process.
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

# Seconds; a request that waits for its images may take up to twenty minutes.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
# Exported as 0 from the start: `rate` ignores the first event of a series that did not exist.
PROBLEMS = (
    "client-queue-full",
    "internal",
    "job-lost",
    "overloaded",
    "queue-full",
    "rate-limited",
    "too-many-jobs",
    "would-miss-deadline",
)


class Metrics:
    """The metrics of one application, in their own registry."""

    def __init__(self) -> None:
        # Without the `_created` series of each counter.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.meters = BackendMetrics(registry)
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "darkroom_http_requests",
            "Requests answered; status none: the client disconnected before.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "darkroom_http_request_seconds",
            "Time from the first byte of a request to the last of its response.",
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
        self.webhooks = Counter(
            "darkroom_webhooks",
            "Calls of webhooks: delivered, failed (tried again), given-up, or refused by a 410.",
            ("outcome",),
            registry=registry,
        )
        self.loop_lag = Histogram(
            "darkroom_event_loop_lag_seconds",
            "How late the event loop wakes a sleeping task, measured twice a second.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        for problem in PROBLEMS:
            self.problems.labels(problem)
        for outcome in ("delivered", "failed", "given-up", "refused"):
            self.webhooks.labels(outcome)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format. Blocks while it reads from Redis."""
        return generate_latest(self.registry)

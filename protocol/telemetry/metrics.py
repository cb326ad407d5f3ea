"""Prometheus metrics of Redis and the object store, for both programs."""

from prometheus_client import CollectorRegistry, Counter, Histogram

REDIS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
STORE_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class BackendMetrics:
    """Durations and errors of Redis and the store, in the registry of the program."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.redis_seconds = Histogram(
            "darkroom_redis_seconds",
            "Time of a round trip to Redis: one command, or one pipeline of them.",
            buckets=REDIS_BUCKETS,
            registry=registry,
        )
        self.redis_errors = Counter(
            "darkroom_redis_errors",
            "Round trips to Redis that ended in an error, by its kind.",
            ("error",),
            registry=registry,
        )
        self.store_seconds = Histogram(
            "darkroom_store_seconds",
            "Time of an operation on the object store.",
            ("operation",),
            buckets=STORE_BUCKETS,
            registry=registry,
        )
        self.store_errors = Counter(
            "darkroom_store_errors",
            "Operations on the object store that failed; each try counts.",
            ("operation",),
            registry=registry,
        )
        for operation in ("put", "get"):  # from the start, so that their rate exists
            self.store_errors.labels(operation)

    def redis(self, operation: str, seconds: float, error: str | None) -> None:
        """Observe a round trip."""
        self.redis_seconds.observe(seconds)
        if error is not None:
            self.redis_errors.labels(error).inc()

    def store(self, operation: str, seconds: float, error: str | None) -> None:
        """Observe an operation on the store."""
        self.store_seconds.labels(operation).observe(seconds)
        if error is not None:
            self.store_errors.labels(operation).inc()

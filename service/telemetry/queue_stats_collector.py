"""What stands in Redis, counted for Prometheus each time it asks: jobs, workers, memory.

RQ's own counts go by the names that the public exporter for RQ gives them, so that dashboards made
for it work here.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from protocol.connection.redis_client import connect
from protocol.errors import QueueUnavailable
from protocol.queue.queue_stats import QueueStats, QueueStatsReader
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import ModelState, Presence, WorkerReport, WorkerState

ANSWER_TIMEOUT_S = 1.5
# RQ's status of a job -> ours.
STATES = {"queued": "queued", "started": "running"}


class QueueStatsCollector(Collector):
    """Redis away is told by `darkroom_redis_up`, and by the absence of all the rest."""

    def __init__(self, redis_url: str) -> None:
        # Of its own, and impatient: Prometheus asks again soon, and wants to hear of an outage.
        self._redis = connect(redis_url, answer_timeout_s=ANSWER_TIMEOUT_S, retries=0)
        self._catalogue = ModelRegistry(self._redis)
        self._presence = Presence(self._redis)
        self._count = QueueStatsReader(self._redis)

    def close(self) -> None:
        self._redis.close()

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering asks Redis for nothing."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every figure as it is now."""
        up = GaugeMetricFamily("darkroom_redis_up", "Whether Redis answered this question.")
        try:
            models = list(self._catalogue.cards())
            census, reports = self._count(models), self._presence.workers()
        except QueueUnavailable:
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        yield from _jobs(census)
        yield from _workers(models, reports)
        yield from _memory(census)
        yield from _rq(census)


def _jobs(census: QueueStats) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "darkroom_queue_depth",
        "Jobs that wait (queued) or are drawn (running).",
        labels=("model", "priority", "state"),
    )
    oldest = GaugeMetricFamily(
        "darkroom_queue_oldest_seconds",
        "For how long the first in the queue waits; 0: nobody does.",
        labels=("model", "priority"),
    )
    for lane in census.lanes:
        for status, state in STATES.items():
            depth.add_metric((lane.model, lane.priority, state), lane.jobs[status])
        oldest.add_metric((lane.model, lane.priority), lane.oldest_s)
    yield depth
    yield oldest


def _workers(models: list[str], reports: list[WorkerReport]) -> Iterator[Metric]:
    """Zeros too: a model without a ready worker is what somebody wants to hear of."""
    family = GaugeMetricFamily(
        "darkroom_workers",
        "Workers by what they say of themselves; one counts for each model that it has, or would "
        "load when a job comes for it (on_demand).",
        labels=("model", "state"),
    )
    named = [pair for report in reports for pair in _states(report)]
    for model in sorted({*models, *(model for model, _ in named)}):
        for state in (*WorkerState, ModelState.ON_DEMAND):
            family.add_metric((model, state), named.count((model, state)))
    yield family


def _states(report: WorkerReport) -> list[tuple[str, str]]:
    """What a worker is to each of its models."""
    if not report.models or not report.state.serves:
        return [(report.model or "none", report.state)]
    states: dict[ModelState, str] = {
        ModelState.READY: report.state,
        ModelState.LOADING: WorkerState.LOADING,
        ModelState.ON_DEMAND: ModelState.ON_DEMAND,
        ModelState.FAILED: WorkerState.SETUP_FAILED,
    }
    return [(model.name, states[model.state]) for model in report.models]


def _memory(census: QueueStats) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "darkroom_redis_memory_used_bytes", "Memory Redis uses.", value=census.memory_used
    )
    yield GaugeMetricFamily(
        "darkroom_redis_memory_max_bytes",
        "Memory Redis may use; 0: as much as there is.",
        value=census.memory_limit,
    )


def _rq(census: QueueStats) -> Iterator[Metric]:
    workers = GaugeMetricFamily("rq_workers", "RQ workers.", labels=("name", "state", "queues"))
    jobs = GaugeMetricFamily("rq_jobs", "RQ jobs by status.", labels=("queue", "status"))
    for worker in census.workers:
        workers.add_metric((worker.name, worker.state, worker.queues), 1)
    for lane in census.lanes:
        for status, count in lane.jobs.items():
            jobs.add_metric((lane.queue, status), count)
    yield workers
    yield jobs
    counted: dict[str, tuple[str, Callable[..., float]]] = {
        "rq_workers_success": ("Jobs that a worker finished.", lambda worker: worker.succeeded),
        "rq_workers_failed": ("Jobs that failed in a worker.", lambda worker: worker.failed),
        "rq_workers_working_time": ("Seconds a worker drew.", lambda worker: worker.busy_s),
    }
    for name, (meaning, count_of) in counted.items():
        family = CounterMetricFamily(name, meaning, labels=("name", "queues"))
        for worker in census.workers:
            family.add_metric((worker.name, worker.queues), count_of(worker))
        yield family

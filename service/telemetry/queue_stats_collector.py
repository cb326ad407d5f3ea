"""Prometheus collector of figures from Redis, read at each scrape: jobs, workers, memory.

RQ's own counts have the names of the public RQ exporter, so that dashboards made for it work here.
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
    """Collector of the queue statistics. While Redis is unreachable, only `darkroom_redis_up`."""

    def __init__(self, redis_url: str) -> None:
        # Its own connection with a short timeout: Prometheus scrapes again soon, and an outage
        # should show at once.
        self._redis = connect(redis_url, answer_timeout_s=ANSWER_TIMEOUT_S, retries=0)
        self._registry = ModelRegistry(self._redis)
        self._presence = Presence(self._redis)
        self._count = QueueStatsReader(self._redis)

    def close(self) -> None:
        self._redis.close()

    def describe(self) -> Iterator[Metric]:
        """Describe no metrics, so that registration does not query Redis."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics with their current values."""
        up = GaugeMetricFamily("darkroom_redis_up", "Whether Redis answered this query.")
        try:
            models = list(self._registry.cards())
            stats, reports = self._count(models), self._presence.workers()
        except QueueUnavailable:
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        yield from _jobs(stats)
        yield from _workers(models, reports)
        yield from _memory(stats)
        yield from _rq(stats)


def _jobs(stats: QueueStats) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "darkroom_queue_depth",
        "Jobs that wait (queued) or are generated (running).",
        labels=("model", "priority", "state"),
    )
    oldest = GaugeMetricFamily(
        "darkroom_queue_oldest_seconds",
        "Waiting time of the first job in the queue; 0: the queue is empty.",
        labels=("model", "priority"),
    )
    for lane in stats.lanes:
        for status, state in STATES.items():
            depth.add_metric((lane.model, lane.priority, state), lane.jobs[status])
        oldest.add_metric((lane.model, lane.priority), lane.oldest_s)
    yield depth
    yield oldest


def _workers(models: list[str], reports: list[WorkerReport]) -> Iterator[Metric]:
    """Yield the number of workers by model and state; zeros too, so that alerts can use them."""
    family = GaugeMetricFamily(
        "darkroom_workers",
        "Workers by their reported state; one counts for each model that it has, or would load "
        "when a job needs it (on_demand).",
        labels=("model", "state"),
    )
    named = [pair for report in reports for pair in _states(report)]
    for model in sorted({*models, *(model for model, _ in named)}):
        for state in (*WorkerState, ModelState.ON_DEMAND):
            family.add_metric((model, state), named.count((model, state)))
    yield family


def _states(report: WorkerReport) -> list[tuple[str, str]]:
    """Return the state of a worker for each of its models, as (model, state)."""
    if not report.models or not report.state.serves:
        return [(report.model or "none", report.state)]
    states: dict[ModelState, str] = {
        ModelState.READY: report.state,
        ModelState.LOADING: WorkerState.LOADING,
        ModelState.ON_DEMAND: ModelState.ON_DEMAND,
        ModelState.FAILED: WorkerState.SETUP_FAILED,
    }
    return [(model.name, states[model.state]) for model in report.models]


def _memory(stats: QueueStats) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "darkroom_redis_memory_used_bytes", "Memory Redis uses.", value=stats.memory_used
    )
    yield GaugeMetricFamily(
        "darkroom_redis_memory_max_bytes",
        "Memory Redis may use; 0: as much as there is.",
        value=stats.memory_limit,
    )


def _rq(stats: QueueStats) -> Iterator[Metric]:
    workers = GaugeMetricFamily("rq_workers", "RQ workers.", labels=("name", "state", "queues"))
    jobs = GaugeMetricFamily("rq_jobs", "RQ jobs by status.", labels=("queue", "status"))
    for worker in stats.workers:
        workers.add_metric((worker.name, worker.state, worker.queues), 1)
    for lane in stats.lanes:
        for status, count in lane.jobs.items():
            jobs.add_metric((lane.queue, status), count)
    yield workers
    yield jobs
    counters: dict[str, tuple[str, Callable[..., float]]] = {
        "rq_workers_success": ("Jobs that a worker finished.", lambda worker: worker.succeeded),
        "rq_workers_failed": ("Jobs that failed in a worker.", lambda worker: worker.failed),
        "rq_workers_working_time": ("Seconds a worker was busy.", lambda worker: worker.busy_s),
    }
    for name, (description, count_of) in counters.items():
        family = CounterMetricFamily(name, description, labels=("name", "queues"))
        for worker in stats.workers:
            family.add_metric((worker.name, worker.queues), count_of(worker))
        yield family

"""Queue statistics: the numbers of jobs and workers by state, for monitoring.

One script and one INFO, independent of the number of jobs. Times are Redis'. RQ's own counts are
not used: they modify the queue while they read it.
"""

from dataclasses import dataclass

from redis import Redis

from protocol.connection.redis_client import redis_errors
from protocol.connection.scripts import PipelinedScript
from protocol.queue.submission import queue_name
from protocol.request.request import Priority

# In the order of the counts in the script's answer.
STATUSES = ("queued", "started", "finished", "failed", "canceled", "deferred", "scheduled")


@dataclass(frozen=True)
class Lane:
    """The jobs of one model and priority: their number by status, in RQ's names.

    `oldest_s`: the seconds for which the first job has waited; 0 if none waits.
    """

    model: str
    priority: Priority
    queue: str
    jobs: dict[str, int]
    oldest_s: float


@dataclass(frozen=True)
class WorkerStats:
    """A worker as RQ lists it. Counts are of jobs since it started, `busy_s` their seconds."""

    name: str
    queues: str
    state: str
    succeeded: int
    failed: int
    busy_s: float


@dataclass(frozen=True)
class QueueStats:
    """All queues and workers at one moment. Memory in bytes; `memory_limit` is 0 for no limit."""

    lanes: tuple[Lane, ...]
    workers: tuple[WorkerStats, ...]
    memory_used: int
    memory_limit: int


class QueueStatsReader:
    """Reads queue statistics. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = PipelinedScript(redis, "queue_stats")

    def __call__(self, models: list[str]) -> QueueStats:
        """Return the statistics of the queues of `models`."""
        with redis_errors():
            workers, lanes = self._script(pools=[queue_name(model) for model in models])
            memory = self._redis.info("memory")
        named = [(model, priority) for model in models for priority in Priority]
        return QueueStats(
            tuple(
                _lane(model, priority, found)
                for (model, priority), found in zip(named, lanes, strict=True)
            ),
            tuple(map(_worker, workers)),
            int(memory["used_memory"]),
            int(memory["maxmemory"]),
        )


def _lane(model: str, priority: Priority, found: list[bytes | list[int]]) -> Lane:
    queue, oldest, counts = found
    assert isinstance(queue, bytes)
    assert isinstance(oldest, bytes)
    assert isinstance(counts, list)
    jobs = dict(zip(STATUSES, counts, strict=True))
    return Lane(model, priority, queue.decode(), jobs, float(oldest))


def _worker(found: list[bytes]) -> WorkerStats:
    name, queues, state, succeeded, failed, busy = (text.decode() for text in found)
    return WorkerStats(name, queues, state, int(succeeded), int(failed), float(busy))

"""How many jobs and workers there are, and in which state, for those who watch over them.

One read-only script and one INFO, however many jobs there are. RQ's own counts are not asked for:
they tidy up while they look.
"""

import time
from dataclasses import dataclass
from datetime import datetime

from redis import Redis

from protocol.connection.redis_client import redis_errors
from protocol.connection.scripts import PipelinedScript
from protocol.queue.submission import queue_name
from protocol.request.request import Priority

# In the order the script counts them.
STATUSES = ("queued", "started", "finished", "failed", "canceled", "deferred", "scheduled")


@dataclass(frozen=True)
class Lane:
    """The jobs of one model and priority: how many there are of each status, in RQ's words.

    `oldest_s`: since when the job at the head waits, in seconds; 0 if none does.
    """

    model: str
    priority: Priority
    queue: str
    jobs: dict[str, int]
    oldest_s: float


@dataclass(frozen=True)
class RqWorker:
    """A worker as RQ lists it. Counts are of jobs since it started, `busy_s` what they took."""

    name: str
    queues: str
    state: str
    succeeded: int
    failed: int
    busy_s: float


@dataclass(frozen=True)
class QueueStats:
    """Everybody at one moment. Memory in bytes; `memory_limit` is 0 where there is none."""

    lanes: tuple[Lane, ...]
    workers: tuple[RqWorker, ...]
    memory_used: int
    memory_limit: int


class Counting:
    """Takes the census. Raises `QueueUnavailable` when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = PipelinedScript(redis, "queue_stats")

    def __call__(self, models: list[str]) -> QueueStats:
        """The census of the queues of `models`."""
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
    return Lane(model, priority, queue.decode(), jobs, _age(oldest))


def _worker(found: list[bytes]) -> RqWorker:
    name, queues, state, succeeded, failed, busy = (text.decode() for text in found)
    return RqWorker(name, queues, state, int(succeeded), int(failed), float(busy))


def _age(rq_time: bytes) -> float:
    """Seconds since a time as RQ writes it; 0 for what is none."""
    try:
        return max(0.0, time.time() - datetime.fromisoformat(rq_time.decode()).timestamp())
    except ValueError:
        return 0.0

"""Limits of one client over all API processes: rates, and jobs in flight.

Each decision is one Lua script on the server's clock. All of a client's keys share a hash tag, so
that they are in one slot of a Redis Cluster.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from redis import Redis

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.errors import RateLimited, TooManyJobs
from protocol.queue.job import TERMINAL, JobState

States = Callable[[Iterable[str]], Mapping[str, JobState]]  # of existing jobs, by id

SUBMIT_S = 60  # the most time between `enter` and the job being in the queue

# KEYS: bucket. ARGV: capacity, cost. A bucket refills itself once a minute. Returns 0 where the
# cost was taken, else the milliseconds until it can be.
TAKE_SCRIPT = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local capacity, cost = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'left', 'at')
local left, at = tonumber(kept[1] or capacity), tonumber(kept[2] or now)
left = math.min(capacity, left + math.max(0, now - at) * capacity / 60000)
if left < cost then
  return math.ceil((cost - left) * 60000 / capacity)
end
redis.call('HSET', KEYS[1], 'left', string.format('%.3f', left - cost), 'at', now)
redis.call('PEXPIRE', KEYS[1], 60000)
return 0
"""

# KEYS: the client's jobs in flight, a sorted set by time. ARGV: job, most.
# Returns whether there was room for the job.
ENTER_SCRIPT = """
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], 86400)
return 1
"""


@dataclass(frozen=True)
class Rate:
    """A limit of `per_minute` of `what`; the name is for the client and for a key in Redis."""

    what: str
    per_minute: int


class Limits:
    """Rates and jobs in flight, by client. Raises `QueueUnavailable` when Redis does not answer.

    `states` returns the states of jobs (`JobQueue.states`).
    """

    def __init__(self, redis: Redis, states: States) -> None:
        self._redis = redis
        self._states = states
        self._take = redis.register_script(TAKE_SCRIPT)
        self._enter = redis.register_script(ENTER_SCRIPT)

    def take(self, client: str, rate: Rate, cost: int) -> None:
        """Take `cost`, which is at most the rate, or raise `RateLimited` and take nothing."""
        bucket = _key(client, rate.what.replace(" ", "-"))
        with redis_errors():
            wait_ms = self._take(keys=[bucket], args=[rate.per_minute, cost])
        if wait_ms:
            raise RateLimited(rate.what, rate.per_minute, wait_ms / 1000)

    def enter(self, client: str, job_id: str, most: int) -> None:
        """Count a job before it is submitted. Raises `TooManyJobs` beyond `most`.

        Ended jobs are removed only when there seems to be no room: so the end of a job need not be
        reported, and no crash leaves a wrong count.
        """
        jobs = _key(client, "jobs")
        with redis_errors():
            if self._enter(keys=[jobs], args=[job_id, most]):
                return
            self._forget_ended(jobs)
            if not self._enter(keys=[jobs], args=[job_id, most]):
                raise TooManyJobs(most)

    def leave(self, client: str, job_id: str) -> None:
        """Remove a job that was not submitted."""
        with redis_errors():
            self._redis.zrem(_key(client, "jobs"), job_id)

    def _forget_ended(self, jobs: str) -> None:
        entered: list[tuple[bytes, float]] = self._redis.zrange(jobs, 0, -1, withscores=True)  # type: ignore[assignment]  # sync client
        now, _ = self._redis.time()
        states = self._states(job_id.decode() for job_id, _ in entered)

        def ended(job_id: str, at: float) -> bool:
            state = states.get(job_id)
            return at < now - SUBMIT_S if state is None else state in TERMINAL

        gone = [job_id for job_id, at in entered if ended(job_id.decode(), at)]
        if gone:
            self._redis.zrem(jobs, *gone)


def _key(client: str, what: str) -> str:
    return key("limits", f"{{{client}}}", what)

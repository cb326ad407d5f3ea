"""Redis clients of both programs: timeouts, few retries, and one error for an outage."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis, RedisError
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from protocol.connection.keyspace import key
from protocol.connection.timed_redis import TimedRedis
from protocol.connection.topology import connection_options
from protocol.errors import QueueUnavailable
from protocol.observing import Observe

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
RETRIES = 3  # enough for a failover of under a second; longer outages are shown by the caller
IDLE_CHECK_S = 30  # after this time without use, a connection is pinged first: it may be dead
RETRIED = (RedisConnectionError, RedisTimeoutError)


def connect(
    url: str,
    observe: Observe | None = None,
    answer_timeout_s: float = ANSWER_TIMEOUT_S,
    retries: int = RETRIES,
) -> Redis:
    """Return a client for a `redis://`, `rediss://` or `unix://` URL, or one of `topology`.

    It connects on first use. `observe` is called with the duration of each round trip.
    """
    plain_url, options = connection_options(url)
    client = (TimedRedis if observe else Redis).from_url(
        plain_url,
        **options,
        socket_timeout=answer_timeout_s,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        health_check_interval=IDLE_CHECK_S,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries, supported_errors=RETRIED),
    )
    if isinstance(client, TimedRedis) and observe:
        client.observe = observe
    return client


def connect_async(url: str) -> AsyncRedis:
    """Return a client for asyncio, for subscriptions.

    It never retries, so a broken connection is an error at once. The caller connects again; a retry
    inside the client would race with new subscriptions.
    """
    plain_url, options = connection_options(url, for_asyncio=True)
    return AsyncRedis.from_url(
        plain_url,
        **options,
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        health_check_interval=IDLE_CHECK_S,
        retry=AsyncRetry(NoBackoff(), 0),
    )


def server_time(redis: Redis) -> float:
    """Return Redis' time, in seconds since 1970.

    Times that several machines compare are on this clock: their own may be hours apart.
    """
    with redis_errors():
        seconds, microseconds = redis.time()
    return seconds + microseconds / 1e6


def check_writable(redis: Redis) -> None:
    """Raise `QueueUnavailable` if Redis takes no writes: no memory, no disk, or not the master."""
    with redis_errors():
        redis.set(key("probe"), 1, px=1000)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Convert Redis errors inside the block into `QueueUnavailable`, keeping the cause."""
    try:
        yield
    except RedisError as error:
        raise QueueUnavailable from error

"""How both programs reach Redis: timeouts, few retries, and one error of ours when it is away."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis, RedisError
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from protocol.connection.timed_redis import TimedRedis
from protocol.connection.topology import reach
from protocol.errors import QueueUnavailable
from protocol.observing import Observe

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
RETRIES = 3  # rides out a fail-over of under a second; longer outages are the caller's to show
IDLE_CHECK_S = 30  # idle for longer, a connection is pinged before use: it may be dead unnoticed
RETRIED = (RedisConnectionError, RedisTimeoutError)


def connect(
    url: str,
    observe: Observe | None = None,
    answer_timeout_s: float = ANSWER_TIMEOUT_S,
    retries: int = RETRIES,
) -> Redis:
    """A client for a `redis://`, `rediss://` or `unix://` address, or one of
    `protocol.connection.topology`'s,
    which connects on first use.

    `observe` is told how long each round trip took.
    """
    plain_url, way = reach(url)
    client = (TimedRedis if observe else Redis).from_url(
        plain_url,
        **way,
        socket_timeout=answer_timeout_s,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        health_check_interval=IDLE_CHECK_S,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries, supported_errors=RETRIED),
    )
    if isinstance(client, TimedRedis) and observe:
        client.observe = observe
    return client


def connect_async(url: str) -> AsyncRedis:
    """The same for asyncio, to listen with: it never retries, so a broken link is seen at once.

    Who listens builds the next link; a retry inside the client would race with new subscriptions.
    """
    plain_url, way = reach(url, for_asyncio=True)
    return AsyncRedis.from_url(
        plain_url,
        **way,
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        health_check_interval=IDLE_CHECK_S,
        retry=AsyncRetry(NoBackoff(), 0),
    )


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn whatever Redis raises inside the block into `QueueUnavailable`, keeping the cause."""
    try:
        yield
    except RedisError as error:
        raise QueueUnavailable from error

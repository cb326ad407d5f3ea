"""Idempotency keys."""

from collections.abc import Iterator

import pytest
from redis import Redis

from protocol.errors import InvalidRequest, QueueUnavailable
from protocol.queue.idempotency import IdempotencyKeys, fingerprint
from protocol.request.object_keys import is_job_id
from tests.worker.consumer.harness import request

SAME = fingerprint(request(), seed=None)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


def test_key_returns_the_same_job(redis: Redis) -> None:
    keys = IdempotencyKeys(redis)
    first = keys.job_id("ann", "order-1", SAME)
    assert is_job_id(first)
    assert IdempotencyKeys(redis).job_id("ann", "order-1", SAME) == first
    assert keys.job_id("ann", "order-2", SAME) != first


def test_key_belongs_to_its_client(redis: Redis) -> None:
    keys = IdempotencyKeys(redis)
    assert keys.job_id("ann", "order", SAME) != keys.job_id("bob", "order", SAME)


def test_key_is_refused_for_another_request(redis: Redis) -> None:
    keys = IdempotencyKeys(redis)
    keys.job_id("ann", "order", SAME)
    with pytest.raises(InvalidRequest) as refused:
        keys.job_id("ann", "order", fingerprint(request(prompt="another"), seed=None))
    assert refused.value.problem == "idempotency-key-reused"


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "ключ"])
def test_malformed_key_is_refused(redis: Redis, key: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        IdempotencyKeys(redis).job_id("ann", key, SAME)
    assert refused.value.field == "Idempotency-Key"
    assert redis.dbsize() == 0


def test_random_seed_is_not_part_of_the_fingerprint() -> None:
    one, other = request(seed=1), request(seed=2)
    assert fingerprint(one, seed=None) == fingerprint(other, seed=None)
    assert fingerprint(one, seed=1) != fingerprint(other, seed=2)


def test_keys_expire(redis: Redis) -> None:
    IdempotencyKeys(redis).job_id("ann", "order", SAME)
    [name] = redis.keys("*idempotency*")
    assert redis.ttl(name) > 0


def test_redis_outage_raises_queue_unavailable() -> None:
    with Redis(port=1) as nowhere, pytest.raises(QueueUnavailable):
        IdempotencyKeys(nowhere).job_id("ann", "order", SAME)

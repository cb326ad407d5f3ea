"""The registry of models and the presence of workers in Redis."""

import time
from collections.abc import Iterator

import pytest
from redis import Redis

from protocol.connection.redis_client import connect
from protocol.errors import QueueUnavailable
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import WORKERS, Presence, WorkerReport, WorkerState
from tests.protocol.records import CARD
from tests.support.redis_server import RedisServer


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as redis:
        yield redis


def test_published_models_are_listed_by_name(redis: Redis) -> None:
    registry = ModelRegistry(redis)
    assert registry.cards() == {}
    other = registry.publish(CARD.model_copy(update={"name": "another"}), "{}")
    tiny = registry.publish(CARD, '{"a": 1}')
    assert list(registry.cards().items()) == [("another", other), ("tiny", tiny)]
    assert tiny.tokenizer_sha256 != other.tokenizer_sha256
    assert registry.tokenizer_json("tiny") == '{"a": 1}'
    assert registry.tokenizer_json("gone") is None
    registry.withdraw("tiny")
    assert list(registry.cards()) == ["another"]
    assert registry.tokenizer_json("tiny") is None


def test_workers_are_present_while_they_report(redis: Redis) -> None:
    presence, brief = Presence(redis), Presence(redis, ttl_s=0.02)
    loading = WorkerReport(name="b", state=WorkerState.LOADING, progress=0.5)
    ready = WorkerReport(name="a", state=WorkerState.READY, model="tiny", device="cpu")
    for report in (loading, ready):
        presence.report(report)
    brief.report(WorkerReport(name="c", state=WorkerState.BUSY))
    while len(found := presence.workers()) > 2:
        time.sleep(0.005)
    assert found == [ready, loading]
    assert redis.zcard(WORKERS) == 2  # the expired one is removed
    presence.leave("a")
    assert presence.workers() == [loading]


def test_redis_outage_raises_queue_unavailable() -> None:
    with RedisServer() as server:
        redis = connect(server.unix_url)
        assert ModelRegistry(redis).cards() == {}
        server.kill()
        for ask in (ModelRegistry(redis).cards, Presence(redis).workers):
            with pytest.raises(QueueUnavailable):
                ask()
        server.start()
        assert ModelRegistry(redis).cards() == {}
        redis.close()

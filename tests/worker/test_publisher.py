"""ModelPublisher: cards are in Redis while their worker lives, whatever Redis forgets."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from redis import Redis

from protocol.connection.redis_client import connect
from protocol.errors import QueueUnavailable
from protocol.registry.model_registry import CARDS, TOKENIZERS, ModelRegistry, PublishedModel
from protocol.registry.presence import Presence, WorkerState
from protocol.storage.object_store import ObjectStore
from tests.protocol.records import CARD
from tests.support.redis_server import RedisServer
from tests.worker.consumer.harness import (
    MODEL,
    client,
    close_clients,
    job_queue,
    outcome,
    request,
    settings,
    wait_for,
)
from tests.worker.fake_engine import FakeEngine
from worker.consumer.context import WorkerContext
from worker.interfaces import OneModel
from worker.publisher import ModelPublisher
from worker.serve import serve
from worker.settings import WorkerSettings
from worker.telemetry.heartbeat import Heartbeat
from worker.telemetry.metrics import Metrics

OTHER = CARD.model_copy(update={"name": "other"})


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as redis:
        yield redis


class Cards:
    """The cards of a worker; `now` may be changed."""

    def __init__(self, *now: PublishedModel) -> None:
        self.now = list(now)

    def __call__(self) -> list[PublishedModel]:
        return list(self.now)


def publisher(redis: Redis, cards: Cards, worker: str = "ann") -> ModelPublisher:
    published = ModelPublisher(redis, worker, cards)
    published.publish()
    return published


def snapshot(redis: Redis) -> dict[bytes, bytes]:
    """Return all data of Redis, as a backup would have it."""
    return {key: redis.dump(key) for key in redis.scan_iter()}  # type: ignore[misc]  # sync client


def restore(redis: Redis, backup: dict[bytes, bytes]) -> None:
    redis.flushall()
    for key, value in backup.items():
        redis.restore(key, 0, value)


def test_nothing_is_published_again_while_nothing_is_lost(redis: Redis) -> None:
    ann = publisher(redis, Cards((CARD, "{}")))
    before = redis.info("commandstats")["cmdstat_hset"]["calls"]
    assert [ann.check() for _ in range(3)] == [False, False, False]
    assert redis.info("commandstats")["cmdstat_hset"]["calls"] == before


@pytest.mark.parametrize(
    "lose",
    [
        lambda redis: redis.flushall(),
        lambda redis: redis.delete(CARDS),
        lambda redis: redis.delete(TOKENIZERS),
        lambda redis: redis.hdel(CARDS, "other"),
        lambda redis: redis.hdel(TOKENIZERS, "other"),
    ],
)
def test_what_redis_has_lost_is_published_again(redis: Redis, lose: object) -> None:
    ann = publisher(redis, Cards((CARD, "{}"), (OTHER, "[]")))
    registry = ModelRegistry(redis)
    cards = registry.cards()
    lose(redis)  # type: ignore[operator]
    assert ann.check()
    assert registry.cards() == cards
    assert registry.tokenizer_json("other") == "[]"
    assert not ann.check()


def test_older_backup_does_not_stay(redis: Redis) -> None:
    """Neither one from before this worker, nor one from before its last change."""
    registry, old = ModelRegistry(redis), CARD.model_copy(update={"max_steps": 1})
    registry.publish(old, "old")
    backups = [snapshot(redis)]
    cards = Cards((CARD, "{}"))
    ann = publisher(redis, cards)
    backups.append(snapshot(redis))
    cards.now = [(CARD.model_copy(update={"loras": ("style",)}), "{}")]
    assert not ann.check()
    assert registry.cards()["tiny"].loras == ("style",)
    for backup in backups:
        restore(redis, backup)
        assert registry.cards()["tiny"].loras == ()
        assert ann.check()
        assert registry.cards()["tiny"].loras == ("style",)
        assert registry.tokenizer_json("tiny") == "{}"


def test_workers_of_different_versions_do_not_overwrite_each_other(redis: Redis) -> None:
    newer = CARD.model_copy(update={"max_steps": 7})
    ann = publisher(redis, Cards((CARD, "{}")), "ann")
    bob = publisher(redis, Cards((newer, "{}")), "bob")
    for _ in range(3):
        assert not ann.check()
        assert not bob.check()
        assert ModelRegistry(redis).cards()["tiny"].max_steps == 7


def test_redis_outage_is_no_loss(redis_url: str) -> None:
    with RedisServer() as server, connect(server.url, retries=0) as redis:
        ann = publisher(redis, Cards((CARD, "{}")))
        server.kill()
        with pytest.raises(QueueUnavailable):
            ann.check()
        server.start()
        assert not ann.check()


def test_marks_expire(redis: Redis) -> None:
    publisher(redis, Cards((CARD, "{}")))
    assert 0 < redis.ttl("darkroom:published:ann") <= 60


# ---- a whole worker ----------------------------------------------------------------------------


@contextmanager
def serving_worker(settings: WorkerSettings, engine: FakeEngine) -> Iterator[Heartbeat]:
    """A worker in a thread, with all that `serve` starts; its card has the name of the harness."""
    redis = client(settings.redis_url)
    heartbeat = Heartbeat(Presence(redis), "ann")
    heartbeat.update(model=MODEL)
    store = ObjectStore.open("memory:///")
    context = WorkerContext.open(settings, redis, OneModel(MODEL), engine, Metrics(), store=store)
    card = CARD.model_copy(update={"name": MODEL})
    arguments = (redis, "ann", context, lambda: [(card, "{}")], heartbeat)
    thread = Thread(target=serve, args=arguments, name="worker")
    thread.start()
    try:
        yield heartbeat
    finally:
        client(settings.redis_url).publish("rq:pubsub:ann", '{"command": "shutdown"}')
        thread.join(60)
        close_clients()
        assert not thread.is_alive()


def test_worker_serves_again_seconds_after_redis_was_emptied(redis_url: str) -> None:
    redis, queue, steps = client(redis_url), job_queue(redis_url), list[list[str]]()
    engine = FakeEngine(step_s=0.05, before_step=steps.append)
    registry, presence = ModelRegistry(redis), Presence(redis)
    with serving_worker(settings(redis_url, worker_metrics_port=0), engine):
        wait_for(lambda: [report.state for report in presence.workers()] == [WorkerState.READY])
        lost = [queue.submit(request(steps=1000)) for _ in range(2)]
        wait_for(lambda: engine.admitted == lost)
        redis.flushall()
        wait_for(lambda: list(registry.cards()) == [MODEL])
        wait_for(lambda: len(presence.workers()) == 1)
        wait_for(lambda: redis.sismember("rq:workers", "rq:worker:ann") == 1)
        new = queue.submit(request())
        assert outcome(queue, new).result is not None
        wait_for(lambda: engine.idle)
        assert sum(lost[0] in step for step in steps) < 1000  # it was not generated to its end
    assert redis.keys("rq:job:*") == [f"rq:job:{new}".encode()]

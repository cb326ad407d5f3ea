"""What the two programs share in Redis: the catalogue, who is present, and the progress of jobs."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from redis import Redis

from protocol.connection.redis_client import connect, connect_async
from protocol.errors import QueueUnavailable
from protocol.queue.job import JobState, Phase, Progress
from protocol.queue.progress import ProgressBoard, channel, progress_messages
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import WORKERS, Presence, WorkerReport, WorkerState
from tests.protocol.records import CARD
from tests.support.redis_server import RedisServer

JOB = "0" * 32


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as redis:
        yield redis


def test_published_models_are_listed_by_name(redis: Redis) -> None:
    catalogue = ModelRegistry(redis)
    assert catalogue.cards() == {}
    other = catalogue.publish(CARD.model_copy(update={"name": "another"}), "{}")
    tiny = catalogue.publish(CARD, '{"a": 1}')
    assert list(catalogue.cards().items()) == [("another", other), ("tiny", tiny)]
    assert tiny.tokenizer_sha256 != other.tokenizer_sha256
    assert catalogue.tokenizer_json("tiny") == '{"a": 1}'
    assert catalogue.tokenizer_json("gone") is None
    catalogue.withdraw("tiny")
    assert list(catalogue.cards()) == ["another"]
    assert catalogue.tokenizer_json("tiny") is None


def test_workers_are_present_while_they_say_so(redis: Redis) -> None:
    presence, brief = Presence(redis), Presence(redis, ttl_s=0.02)
    loading = WorkerReport(name="b", state=WorkerState.LOADING, progress=0.5)
    ready = WorkerReport(name="a", state=WorkerState.READY, model="tiny", device="cpu")
    for report in (loading, ready):
        presence.report(report)
    brief.report(WorkerReport(name="c", state=WorkerState.BUSY))
    while len(found := presence.workers()) > 2:
        time.sleep(0.005)
    assert found == [ready, loading]
    assert redis.zcard(WORKERS) == 2  # the silent one is forgotten
    presence.leave("a")
    assert presence.workers() == [loading]


def test_the_latest_progress_is_kept(redis: Redis) -> None:
    board = ProgressBoard(redis)
    assert board.latest(JOB) is None
    news = [Progress(job_id=JOB, state=JobState.RUNNING, step=step, steps=3) for step in range(4)]
    board.publish_all(news)
    assert board.latest(JOB) == news[-1]
    assert redis.ttl(channel(JOB)) > 0


def test_the_latest_preview_is_kept_for_a_while(redis: Redis) -> None:
    board = ProgressBoard(redis)
    assert board.preview(JOB) is None
    for jpeg in (b"first", b"second"):
        board.publish_all([], {JOB: jpeg})
    assert board.preview(JOB) == b"second"
    assert board.latest(JOB) is None
    assert {redis.ttl(name) > 0 for name in redis.keys("*preview*")} == {True}


def test_progress_is_told_to_listeners_and_noise_is_not(redis_url: str, redis: Redis) -> None:
    told = Progress(job_id=JOB, state=JobState.RUNNING, step=1, steps=2, phase=Phase.DENOISE)

    async def first_news() -> Progress:
        listener = connect_async(redis_url)
        try:
            async with listener.pubsub() as pubsub:
                await pubsub.subscribe(channel(JOB))
                redis.publish(channel(JOB), "noise")
                ProgressBoard(redis).publish(told)
                return await anext(progress_messages(pubsub))
        finally:
            await listener.aclose()

    assert asyncio.run(first_news()) == told


def test_a_redis_that_is_away_is_an_error_of_ours() -> None:
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

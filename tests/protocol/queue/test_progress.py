"""The progress of jobs in Redis."""

import asyncio
from collections.abc import Iterator

import pytest
from redis import Redis

from protocol.connection.redis_client import connect, connect_async
from protocol.queue.job import JobState, Phase, Progress
from protocol.queue.progress import ProgressBoard, channel, progress_messages

JOB = "0" * 32


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as redis:
        yield redis


def test_latest_progress_is_stored(redis: Redis) -> None:
    board = ProgressBoard(redis)
    assert board.latest(JOB) is None
    updates = [
        Progress(job_id=JOB, state=JobState.RUNNING, step=step, steps=3) for step in range(4)
    ]
    board.publish_all(updates)
    assert board.latest(JOB) == updates[-1]
    assert redis.ttl(channel(JOB)) > 0


def test_latest_preview_is_stored_for_a_while(redis: Redis) -> None:
    board = ProgressBoard(redis)
    assert board.preview(JOB) is None
    for jpeg in (b"first", b"second"):
        board.publish_all([], {JOB: jpeg})
    assert board.preview(JOB) == b"second"
    assert board.latest(JOB) is None
    assert {redis.ttl(name) > 0 for name in redis.keys("*preview*")} == {True}


def test_progress_is_published_and_noise_is_skipped(redis_url: str, redis: Redis) -> None:
    progress = Progress(job_id=JOB, state=JobState.RUNNING, step=1, steps=2, phase=Phase.DENOISE)

    async def first_message() -> Progress:
        client = connect_async(redis_url)
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(channel(JOB))
                redis.publish(channel(JOB), "noise")
                ProgressBoard(redis).publish(progress)
                return await anext(progress_messages(pubsub))
        finally:
            await client.aclose()

    assert asyncio.run(first_message()) == progress

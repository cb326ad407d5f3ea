"""The progress of jobs in Redis."""

import asyncio
from collections.abc import Iterator
from threading import Thread

import pytest
from redis import Redis

from protocol.connection.redis_client import connect, connect_async
from protocol.queue.job import JobState, Phase, Progress
from protocol.queue.progress import Previews, ProgressBoard, channel, progress_messages

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
        board.publish_all([], {JOB: Previews(jpeg)})
    board.publish_all([], {JOB: Previews(None)})
    assert board.preview(JOB) == b"second"
    assert board.latest(JOB) is None
    assert board.previews(JOB, 0) == Previews(b"second")
    assert {redis.ttl(name) > 0 for name in redis.keys("*preview*")} == {True}


def test_latest_preview_of_each_image_is_stored_for_a_while(redis: Redis) -> None:
    board = ProgressBoard(redis)
    for number, each in enumerate(({0: b"a b", 10: b"c"}, {2: b""}, {2: b"d", 10: b" e"}), 1):
        board.publish_all([], {JOB: Previews(b"first", each, number)})
    assert board.previews(JOB, 0).each == {0: b"a b", 2: b"d", 10: b" e"}
    assert board.previews(JOB, 1).each == board.previews(JOB, 2).each == {2: b"d", 10: b" e"}
    assert board.previews(JOB, 3) == Previews(b"first")
    assert {redis.ttl(name) > 0 for name in redis.keys("*preview*")} == {True}


def test_previews_are_of_one_step(redis: Redis) -> None:
    """Read while another thread writes those of the next steps."""
    board = ProgressBoard(redis)

    def write() -> None:
        for step in range(1, 301):
            jpeg = b"%d" % step
            board.publish_all([], {JOB: Previews(jpeg, {0: jpeg, 1: jpeg}, step)})

    writer = Thread(target=write)
    writer.start()
    seen = set()
    while writer.is_alive():
        made = board.previews(JOB, 0)
        seen.add(made.first)
        assert {made.first} >= set(made.each.values())
    writer.join()
    assert len(seen) > 2


def test_previews_that_were_not_sent_are_kept_unless_there_are_newer_ones() -> None:
    before = Previews(b"a", {0: b"a", 1: b"b"}, 1)
    assert Previews(b"c", {1: b"c"}, 2).after(before) == Previews(b"c", {0: b"a", 1: b"c"}, 2)
    assert Previews(None, {1: b"c"}, 2).after(before) == Previews(b"a", {0: b"a", 1: b"c"}, 2)


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

"""Test of the journal of a Redis that was emptied."""

import random
import time
from types import SimpleNamespace
from typing import cast

import redis

from protocol.queue.job import JobState
from tests.chaos.faults import faults
from tests.chaos.journal import read_journal
from tests.chaos.stack import ChaosStack, Program
from tests.support.redis_server import RedisServer


def test_history_is_divided_where_redis_was_emptied() -> None:
    [emptied] = [fault for fault in faults(1.0) if "emptied" in fault.name]
    with RedisServer(appendfsync="always") as server, redis.Redis.from_url(server.url) as client:

        def submit(job: str) -> None:
            client.set("darkroom:idempotency:key", f"{job} fingerprint", nx=True, ex=60)
            client.hset(f"rq:job:{job}", "status", "queued")

        submit("first")
        client.hset("rq:job:other", "status", "finished")
        stack, program = SimpleNamespace(redis=server), SimpleNamespace()
        before = time.time()
        list(emptied.inject(cast(ChaosStack, stack), cast(Program, program), random.Random(1)))
        after = time.time()
        assert client.keys("rq:*") == []
        submit("second")
        client.hset("rq:job:other", "status", "queued")
        journal = read_journal(server.folder)
    assert len(journal.emptied) == 1
    assert before <= journal.emptied[0] <= after
    assert journal.repeated == {"second"}
    assert journal.jobs["first"].lost_with_redis
    assert not journal.jobs["second"].lost_with_redis
    assert [[entry.state for entry in record] for record in journal.jobs["other"].records] == [
        [JobState.FINISHED],
        [JobState.QUEUED],
    ]

"""Calls that Redis runs although their answers are lost."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis import ConnectionError as RedisConnectionError
from redis import ConnectionPool, Redis

from protocol.queue.job import JobResult, JobState, Timings
from protocol.queue.job_queue import JobQueue
from protocol.request.object_keys import new_job_id
from protocol.settings import Settings
from tests.worker.consumer.harness import MODEL, job_queue, request, settings
from worker.consumer.leases import JobStatus
from worker.consumer.rq_worker import RqJobSource

RESULT = JobResult(images=(), timings=Timings())


class LosesAnswers(Redis):
    """Runs the next script, and then loses the answer."""

    losing = False

    def execute_command(self, *args: Any, **options: Any) -> Any:
        answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        if self.losing and args[0] == "EVALSHA":
            self.losing = False
            raise RedisConnectionError("the answer was lost")
        return answer


@pytest.fixture
def losing(redis_url: str) -> Iterator[LosesAnswers]:
    client = LosesAnswers(connection_pool=ConnectionPool.from_url(redis_url))
    yield client
    client.connection_pool.disconnect()


def test_repeated_submit_changes_nothing(redis_url: str, losing: LosesAnswers) -> None:
    queue = JobQueue(losing, Settings(redis_url=redis_url))
    queue.submit(request())
    job_id = new_job_id()
    queue.depth(MODEL)
    losing.losing = True
    with pytest.raises(Exception, match="queue"):
        queue.submit(request(), job_id)
    assert queue.submit(request(), job_id) == job_id
    assert queue.depth(MODEL) == 2


def test_repeated_claim_returns_the_same_job(redis_url: str, losing: LosesAnswers) -> None:
    queue = job_queue(redis_url)
    first, second = queue.submit(request()), queue.submit(request())
    source = RqJobSource(losing, "worker", [MODEL], settings(redis_url))
    assert source.leases.requeue_stalled() == []  # so that the scripts are loaded
    losing.losing = True
    with pytest.raises(RedisConnectionError):
        source.claim(idle=True, models=[MODEL])
    claim = source.claim(idle=True, models=[MODEL])
    assert claim is not None
    assert claim.job_id == first
    assert queue.position(second) == 0
    assert source.finish(claim, RESULT) is JobStatus.FINISHED


def test_repeated_ending_returns_the_same_status(redis_url: str, losing: LosesAnswers) -> None:
    queue = job_queue(redis_url)
    job_id = queue.submit(request())
    source = RqJobSource(losing, "worker", [MODEL], settings(redis_url))
    claim = source.claim(idle=True, models=[MODEL])
    assert claim is not None
    losing.losing = True
    with pytest.raises(RedisConnectionError):
        source.finish(claim, RESULT)
    assert source.finish(claim, RESULT) is JobStatus.FINISHED
    assert queue.view(job_id).state is JobState.FINISHED
    assert losing.xlen(f"rq:results:{job_id}") == 1

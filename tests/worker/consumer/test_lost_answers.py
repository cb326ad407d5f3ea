"""What Redis did although its answer never arrived."""

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


class Deaf(Redis):
    """Carries out the next script, and then does not hear the answer."""

    deaf = False

    def execute_command(self, *args: Any, **options: Any) -> Any:
        answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        if self.deaf and args[0] == "EVALSHA":
            self.deaf = False
            raise RedisConnectionError("the answer was lost")
        return answer


@pytest.fixture
def deaf(redis_url: str) -> Iterator[Deaf]:
    client = Deaf(connection_pool=ConnectionPool.from_url(redis_url))
    yield client
    client.connection_pool.disconnect()


def test_a_submit_is_repeated_harmlessly(redis_url: str, deaf: Deaf) -> None:
    queue = JobQueue(deaf, Settings(redis_url=redis_url))
    queue.submit(request())
    job_id = new_job_id()
    queue.depth(MODEL)
    deaf.deaf = True
    with pytest.raises(Exception, match="queue"):
        queue.submit(request(), job_id)
    assert queue.submit(request(), job_id) == job_id
    assert queue.depth(MODEL) == 2


def test_a_claim_is_repeated_and_not_doubled(redis_url: str, deaf: Deaf) -> None:
    queue = job_queue(redis_url)
    first, second = queue.submit(request()), queue.submit(request())
    ledger = RqJobSource(deaf, "worker", [MODEL], settings(redis_url))
    assert ledger.leases.requeue_stalled() == []  # so that the scripts are loaded
    deaf.deaf = True
    with pytest.raises(RedisConnectionError):
        ledger.claim(idle=True, models=[MODEL])
    claim = ledger.claim(idle=True, models=[MODEL])
    assert claim is not None
    assert claim.job_id == first
    assert queue.position(second) == 0
    assert ledger.finish(claim, RESULT) is JobStatus.FINISHED


def test_an_ending_is_repeated_with_the_same_answer(redis_url: str, deaf: Deaf) -> None:
    queue = job_queue(redis_url)
    job_id = queue.submit(request())
    ledger = RqJobSource(deaf, "worker", [MODEL], settings(redis_url))
    claim = ledger.claim(idle=True, models=[MODEL])
    assert claim is not None
    deaf.deaf = True
    with pytest.raises(RedisConnectionError):
        ledger.finish(claim, RESULT)
    assert ledger.finish(claim, RESULT) is JobStatus.FINISHED
    assert queue.view(job_id).state is JobState.FINISHED
    assert deaf.xlen(f"rq:results:{job_id}") == 1

"""The pools of several models, and one worker that claims from all of them."""

from __future__ import annotations

import pytest

from protocol.errors import JobFailed
from protocol.queue.job import JobState, Phase
from protocol.queue.job_queue import JobQueue
from protocol.settings import Settings
from tests.worker.consumer.harness import client, job_queue, request, settings
from worker.consumer.leases import JobStatus
from worker.consumer.rq_worker import RqJobSource

MODELS = ["one", "two", "three"]


@pytest.fixture
def queue(redis_url: str) -> JobQueue:
    return job_queue(redis_url)


@pytest.fixture
def source(redis_url: str) -> RqJobSource:
    return RqJobSource(client(redis_url), "worker", MODELS, settings(redis_url))


def test_first_pool_with_a_job_is_served(queue: JobQueue, source: RqJobSource) -> None:
    of_two, of_three = (queue.submit(request(model=name)) for name in ("two", "three"))
    first = source.claim(idle=True, models=MODELS)
    assert first is not None
    assert first.job_id == of_two
    assert first.waiting == 1
    assert source.read(first).model == "two"
    assert source.claim(idle=False, models=["one", "two"]) is None  # no job of these models waits
    second = source.claim(idle=False, models=["two", "three"])
    assert second is not None
    assert (second.job_id, second.waiting) == (of_three, 0)


def test_worker_without_models_claims_nothing(queue: JobQueue, source: RqJobSource) -> None:
    queue.submit(request(model="one"))
    assert source.claim(idle=True, models=[]) is None


def test_endings_use_the_pool_of_the_job(queue: JobQueue, source: RqJobSource) -> None:
    ids = [queue.submit(request(model=name)) for name in MODELS]
    claims = [source.claim(idle=True, models=MODELS) for _ in MODELS]
    one, two, three = (claim for claim in claims if claim is not None)
    assert source.fail(one, JobFailed("as expected")) is JobStatus.FAILED
    assert source.requeue(two) is JobStatus.QUEUED
    assert source.cancel(three) is JobStatus.CANCELED
    states = [JobState.FAILED, JobState.QUEUED, JobState.CANCELLED]
    assert [queue.view(job_id).state for job_id in ids] == states
    again = source.claim(idle=True, models=MODELS)
    assert again is not None
    assert again.job_id == two.job_id


def test_leases_of_every_pool_are_renewed_and_requeued(
    queue: JobQueue, source: RqJobSource, redis_url: str
) -> None:
    for name in ("one", "two"):
        queue.submit(request(model=name))
    claims = [source.claim(idle=True, models=MODELS) for _ in range(2)]
    held = [claim for claim in claims if claim is not None]
    redis = client(redis_url)
    for name, claim in zip(("one", "two"), held, strict=True):
        redis.zadd(f"darkroom:leases:darkroom-{name}", {claim.member: 0})
    with redis.pipeline(transaction=False) as pipe:
        source.leases.renew([held[0]], pipe)
        assert pipe.execute() == [[]]
    # The renewed lease is kept; the other one's worker is dead.
    assert source.leases.requeue_stalled() == [(held[1].job_id, JobStatus.QUEUED)]
    with redis.pipeline(transaction=False) as pipe:
        source.leases.renew(held, pipe)
        assert sorted(pipe.execute()) == [[], [held[1].member.encode()]]


def test_expired_jobs_of_every_pool_fail(
    queue: JobQueue, source: RqJobSource, redis_url: str
) -> None:
    ids = [queue.submit(request(model=name)) for name in MODELS]
    redis = client(redis_url)
    for name, job_id in zip(MODELS, ids, strict=True):
        redis.zadd(f"darkroom:deadlines:darkroom-{name}", {job_id: 0})
    assert sorted(source.leases.fail_expired()) == sorted(ids)
    assert {queue.view(job_id).state for job_id in ids} == {JobState.FAILED}


def test_stalled_job_delays_the_pools_after_its_own(
    queue: JobQueue, source: RqJobSource, redis_url: str
) -> None:
    stalled = queue.submit(request(model="two"))
    client(redis_url).hset(f"rq:job:{stalled}", "crashes", 2)
    harmless = queue.submit(request(model="three"))
    before = queue.submit(request(model="one"))
    claim = source.claim(idle=False, models=["one", "two", "three"])
    assert claim is not None
    assert claim.job_id == before
    assert source.claim(idle=False, models=["two", "three", "one"]) is None
    alone = source.claim(idle=True, models=["two", "three", "one"])
    assert alone is not None
    assert (alone.job_id, alone.stalled_count) == (stalled, 2)
    assert queue.view(harmless).state is JobState.QUEUED


def test_waiting_jobs_are_counted_and_report_the_loading(
    queue: JobQueue, source: RqJobSource
) -> None:
    waits = queue.submit(request(model="one"))
    for _ in range(2):
        queue.submit(request(model="two"))
    running = source.claim(idle=True, models=["two"])
    assert running is not None
    assert source.waiting_counts({"one": 0.4, "two": None, "three": 0.9}) == {
        "one": 1, "two": 1, "three": 0,
    }  # fmt: skip
    progress = queue.view(waits).progress
    assert progress is not None
    assert (progress.phase, progress.step, progress.steps, progress.state) == (
        Phase.LOAD, 40, 100, JobState.QUEUED,
    )  # fmt: skip
    # A running job gets no such progress.
    source.waiting_counts({"two": 0.5})
    assert queue.view(running.job_id).progress is None
    claim = source.claim(idle=True, models=["one"])
    assert claim is not None
    assert queue.view(waits).state is JobState.RUNNING
    assert queue.view(waits).progress is None


def test_jobs_of_a_broken_model_fail_with_the_reason(redis_url: str, source: RqJobSource) -> None:
    many = JobQueue(client(redis_url), Settings(redis_url=redis_url, max_queue_per_client=500))
    ids = [many.submit(request(model="one")) for _ in range(130)]
    other = many.submit(request(model="two"))
    assert sorted(source.fail_waiting("one", JobFailed("its file is cut off"))) == sorted(ids)
    assert source.fail_waiting("one", JobFailed("again")) == []
    view = many.view(ids[-1])
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert "its file is cut off" in str(view.error)
    assert many.view(other).state is JobState.QUEUED
    assert many.depth("one") == 0

"""The pools of several models, and one worker that claims from all that it can draw with."""

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
def ledger(redis_url: str) -> RqJobSource:
    return RqJobSource(client(redis_url), "worker", MODELS, settings(redis_url))


def test_the_first_pool_with_a_job_has_its_turn(queue: JobQueue, ledger: RqJobSource) -> None:
    of_two, of_three = (queue.submit(request(model=name)) for name in ("two", "three"))
    first = ledger.claim(idle=True, models=MODELS)
    assert first is not None
    assert first.job_id == of_two
    assert first.waiting == 1
    assert ledger.read(first).model == "two"
    assert ledger.claim(idle=False, models=["one", "two"]) is None  # its model is not asked for
    second = ledger.claim(idle=False, models=["two", "three"])
    assert second is not None
    assert (second.job_id, second.waiting) == (of_three, 0)


def test_a_worker_without_models_takes_nothing(queue: JobQueue, ledger: RqJobSource) -> None:
    queue.submit(request(model="one"))
    assert ledger.claim(idle=True, models=[]) is None


def test_endings_find_their_pool(queue: JobQueue, ledger: RqJobSource) -> None:
    ids = [queue.submit(request(model=name)) for name in MODELS]
    claims = [ledger.claim(idle=True, models=MODELS) for _ in MODELS]
    one, two, three = (claim for claim in claims if claim is not None)
    assert ledger.fail(one, JobFailed("so it was to be")) is JobStatus.FAILED
    assert ledger.requeue(two) is JobStatus.QUEUED
    assert ledger.cancel(three) is JobStatus.CANCELED
    states = [JobState.FAILED, JobState.QUEUED, JobState.CANCELLED]
    assert [queue.view(job_id).state for job_id in ids] == states
    again = ledger.claim(idle=True, models=MODELS)
    assert again is not None
    assert again.job_id == two.job_id


def test_leases_of_every_pool_are_renewed_and_reaped(
    queue: JobQueue, ledger: RqJobSource, redis_url: str
) -> None:
    for name in ("one", "two"):
        queue.submit(request(model=name))
    claims = [ledger.claim(idle=True, models=MODELS) for _ in range(2)]
    held = [claim for claim in claims if claim is not None]
    redis = client(redis_url)
    for name, claim in zip(("one", "two"), held, strict=True):
        redis.zadd(f"darkroom:leases:darkroom-{name}", {claim.member: 0})
    with redis.pipeline(transaction=False) as pipe:
        ledger.leases.renew([held[0]], pipe)
        assert pipe.execute() == [[]]
    # Renewed is not lost; the other's holder has died.
    assert ledger.leases.requeue_stalled() == [(held[1].job_id, JobStatus.QUEUED)]
    with redis.pipeline(transaction=False) as pipe:
        ledger.leases.renew(held, pipe)
        assert sorted(pipe.execute()) == [[], [held[1].member.encode()]]


def test_late_jobs_of_every_pool_are_dropped(
    queue: JobQueue, ledger: RqJobSource, redis_url: str
) -> None:
    ids = [queue.submit(request(model=name)) for name in MODELS]
    redis = client(redis_url)
    for name, job_id in zip(MODELS, ids, strict=True):
        redis.zadd(f"darkroom:deadlines:darkroom-{name}", {job_id: 0})
    assert sorted(ledger.leases.fail_expired()) == sorted(ids)
    assert {queue.view(job_id).state for job_id in ids} == {JobState.FAILED}


def test_a_suspect_whose_turn_it_is_holds_up_the_pools_behind_it(
    queue: JobQueue, ledger: RqJobSource, redis_url: str
) -> None:
    suspect = queue.submit(request(model="two"))
    client(redis_url).hset(f"rq:job:{suspect}", "crashes", 2)
    harmless = queue.submit(request(model="three"))
    before = queue.submit(request(model="one"))
    claim = ledger.claim(idle=False, models=["one", "two", "three"])
    assert claim is not None
    assert claim.job_id == before
    assert ledger.claim(idle=False, models=["two", "three", "one"]) is None
    alone = ledger.claim(idle=True, models=["two", "three", "one"])
    assert alone is not None
    assert (alone.job_id, alone.stalled_count) == (suspect, 2)
    assert queue.view(harmless).state is JobState.QUEUED


def test_who_waits_is_counted_and_told_how_far_the_loading_is(
    queue: JobQueue, ledger: RqJobSource
) -> None:
    waits = queue.submit(request(model="one"))
    for _ in range(2):
        queue.submit(request(model="two"))
    running = ledger.claim(idle=True, models=["two"])
    assert running is not None
    assert ledger.waiting_counts({"one": 0.4, "two": None, "three": 0.9}) == {
        "one": 1, "two": 1, "three": 0,
    }  # fmt: skip
    told = queue.view(waits).progress
    assert told is not None
    assert (told.phase, told.step, told.steps, told.state) == (
        Phase.LOAD, 40, 100, JobState.QUEUED,
    )  # fmt: skip
    # What runs is not told that it waits.
    ledger.waiting_counts({"two": 0.5})
    assert queue.view(running.job_id).progress is None
    claim = ledger.claim(idle=True, models=["one"])
    assert claim is not None
    assert queue.view(waits).state is JobState.RUNNING
    assert queue.view(waits).progress is None


def test_what_nobody_can_draw_fails_with_the_reason(redis_url: str, ledger: RqJobSource) -> None:
    many = JobQueue(client(redis_url), Settings(redis_url=redis_url, max_queue_per_client=500))
    ids = [many.submit(request(model="one")) for _ in range(130)]
    other = many.submit(request(model="two"))
    assert sorted(ledger.fail_waiting("one", JobFailed("its file is cut off"))) == sorted(ids)
    assert ledger.fail_waiting("one", JobFailed("again")) == []
    view = many.view(ids[-1])
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert "its file is cut off" in str(view.error)
    assert many.view(other).state is JobState.QUEUED
    assert many.depth("one") == 0

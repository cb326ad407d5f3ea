"""A deadline holds also when no worker lives, or the one that has the job is frozen."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.errors import TooManyJobs
from protocol.queue.job import JobState
from protocol.queue.job_queue import Submission, queue_name
from protocol.queue.limits import JobLimits
from protocol.queue.progress import ProgressBoard
from protocol.queue.queue_stats import QueueStatsReader
from tests.worker.consumer.harness import (
    MODEL,
    child_worker,
    client,
    job_queue,
    request,
    wait_for,
)
from tests.worker.consumer.test_deadlines import (
    LONG_S,
    RESULT,
    SOON_S,
    has_expired,
    job_source,
    pass_deadline,
)
from worker.consumer.leases import JobStatus

LEASES = f"darkroom:leases:{queue_name(MODEL)}"


def test_waiting_job_ends_when_it_is_looked_at(redis_url: str) -> None:
    queue = job_queue(redis_url)
    late, patient = queue.submit(request(deadline_s=LONG_S), client="ann"), queue.submit(request())
    view = queue.view(late)
    assert view.state is JobState.QUEUED
    assert view.due_s == pytest.approx(LONG_S, abs=60)
    pass_deadline(redis_url, late)
    views = [queue.view(late) for _ in range(2)]  # a repetition changes nothing
    assert views[0] == views[1]
    assert has_expired(views[0], LONG_S)
    assert queue.position(patient) == 0
    assert queue.depth(MODEL) == 1
    progress = ProgressBoard(client(redis_url)).latest(late)
    assert progress is not None
    assert progress.state is JobState.FAILED  # also published
    registry = client(redis_url).zrange(f"rq:failed:{queue_name(MODEL)}", 0, -1)
    assert registry == [late.encode()]
    assert job_source(redis_url).leases.fail_expired() == []


def test_lifetime_is_a_deadline_too(redis_url: str) -> None:
    queue = job_queue(redis_url, job_lifetime_s=60)
    job_id = queue.submit(request())
    assert queue.view(job_id).due_s == pytest.approx(60, abs=30)
    pass_deadline(redis_url, job_id)
    assert has_expired(queue.view(job_id), 60)


@pytest.mark.parametrize("deadline_s", [None, LONG_S])
def test_cancelling_a_late_job_shows_that_it_was_late(
    redis_url: str, deadline_s: float | None
) -> None:
    queue = job_queue(redis_url)
    job_id = queue.submit(request(deadline_s=deadline_s))
    pass_deadline(redis_url, job_id)
    assert queue.cancel(job_id).state is JobState.FAILED


@pytest.mark.parametrize("ending", ["finish", "requeue", "cancel", "mark_stalled"])
def test_late_ending_of_a_running_job_is_refused(redis_url: str, ending: str) -> None:
    queue, redis, source = job_queue(redis_url), client(redis_url), job_source(redis_url)
    job_id = queue.submit(request(deadline_s=LONG_S))
    claim = source.claim(idle=True, models=[MODEL])
    assert claim is not None
    view = queue.view(job_id)
    assert view.state is JobState.RUNNING
    assert view.due_s == pytest.approx(LONG_S, abs=60)
    redis.hset(f"rq:job:{job_id}", "deadline_at", 1.0)
    assert has_expired(queue.view(job_id), LONG_S)
    assert redis.zcard(LEASES) == 0
    assert redis.zcard(f"rq:wip:{queue_name(MODEL)}") == 0
    assert not redis.keys("rq:execution:*")
    with redis.pipeline(transaction=False) as pipe:
        source.leases.renew([claim], pipe)
        assert pipe.execute() == [[claim.member.encode()]]  # the worker drops the job
    endings: dict[str, Callable[[], JobStatus | None]] = {
        "finish": lambda: source.finish(claim, RESULT),
        "requeue": lambda: source.requeue(claim),
        "cancel": lambda: source.cancel(claim),
        "mark_stalled": lambda: source.mark_stalled(claim),
    }
    assert endings[ending]() is None
    assert has_expired(queue.view(job_id), LONG_S)
    assert source.leases.requeue_stalled() == []


def test_other_jobs_keep_their_leases(redis_url: str) -> None:
    queue, source = job_queue(redis_url), job_source(redis_url)
    late, other = queue.submit(request()), queue.submit(request())
    claims = [source.claim(idle=True, models=[MODEL]) for _ in range(2)]
    client(redis_url).hset(f"rq:job:{late}", "deadline_at", 1.0)
    assert queue.view(late).state is JobState.FAILED
    assert claims[1] is not None
    assert source.finish(claims[1], RESULT) is JobStatus.FINISHED
    assert queue.view(other).state is JobState.FINISHED


def test_ended_job_is_not_changed_by_its_deadline(redis_url: str) -> None:
    queue, source = job_queue(redis_url), job_source(redis_url)
    job_id = queue.submit(request(deadline_s=LONG_S))
    claim = source.claim(idle=True, models=[MODEL])
    assert claim is not None
    source.finish(claim, RESULT)
    client(redis_url).hset(f"rq:job:{job_id}", "deadline_at", 1.0)
    view = queue.view(job_id)
    assert (view.state, view.due_s) == (JobState.FINISHED, None)


def test_frozen_worker_cannot_hold_a_job_past_its_deadline(redis_url: str, tmp_path: Path) -> None:
    queue = job_queue(redis_url)
    with child_worker(redis_url, tmp_path, step_s=0.05) as child:
        wait_for(lambda: bool(client(redis_url).scard("rq:workers")))
        # 140 steps of 50 ms outlast the deadline.
        job_id = queue.submit(request(steps=140, deadline_s=3.0))
        wait_for(lambda: queue.view(job_id).state is JobState.RUNNING)
        child.send(signal.SIGSTOP)
        due_s = queue.view(job_id).due_s
        assert due_s is not None
        time.sleep(due_s + 0.05)
        assert has_expired(queue.view(job_id), 3.0)
        child.send(signal.SIGCONT)
        next_one = queue.submit(request(seed=7))
        wait_for(lambda: queue.view(next_one).state is JobState.FINISHED)
    assert has_expired(queue.view(job_id), 3.0)


def test_queue_metrics_count_no_late_job(redis_url: str) -> None:
    queue = job_queue(redis_url)
    job_id = queue.submit(request(deadline_s=SOON_S))
    time.sleep(2 * SOON_S)
    lane = QueueStatsReader(client(redis_url))([MODEL]).lanes[1]
    assert (lane.jobs["queued"], lane.jobs["failed"], lane.oldest_s) == (0, 1, 0.0)
    assert has_expired(queue.view(job_id), SOON_S)


def test_late_jobs_leave_room_for_their_client(redis_url: str) -> None:
    """A running job that is late, and a waiting one of another model, count as ended."""
    queue, source = job_queue(redis_url), job_source(redis_url)
    limits = JobLimits(jobs=2)

    def submit(model: str) -> object:
        one = Submission(request(model=model), client="ann", limits=limits)
        return queue.submit_many([one])[0]

    ids = [submit(MODEL), submit("other")]
    assert source.claim(idle=True, models=[MODEL]) is not None
    assert isinstance(submit(MODEL), TooManyJobs)
    for job_id in ids:
        client(redis_url).hset(f"rq:job:{job_id}", "deadline_at", 1.0)
    assert isinstance(submit(MODEL), str)
    assert [queue.view(str(job_id)).state for job_id in ids] == [JobState.FAILED] * 2


def test_late_job_ends_in_a_redis_without_memory(redis_url: str) -> None:
    queue, redis = job_queue(redis_url), client(redis_url)
    ids = [queue.submit(request(deadline_s=LONG_S)) for _ in range(2)]
    assert job_source(redis_url).claim(idle=True, models=[MODEL]) is not None
    for job_id in ids:
        redis.hset(f"rq:job:{job_id}", "deadline_at", 1.0)
    redis.config_set("maxmemory", 1)
    try:
        states = [queue.view(job_id).state for job_id in ids]
    finally:
        redis.config_set("maxmemory", 0)
    assert states == [JobState.FAILED] * 2
    assert queue.depth(MODEL) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deadline_at", "inf"),
        ("deadline_at", "nan"),
        ("deadline_at", "soon"),
        ("deadline_at", "1e300"),
        ("failure_ttl", "-1"),
        ("failure_ttl", "1e300"),
        ("failure_ttl", "9" * 30),
        ("failure_ttl", "never"),
    ],
)
def test_fields_of_another_program_break_nothing(redis_url: str, name: str, value: str) -> None:
    queue, redis = job_queue(redis_url), client(redis_url)
    job_id = queue.submit(request())
    redis.hset(f"rq:job:{job_id}", mapping={"deadline_at": 1.0, name: value})
    assert queue.view(job_id).state in (JobState.QUEUED, JobState.FAILED)
    assert redis.ttl(f"rq:job:{job_id}") != 0

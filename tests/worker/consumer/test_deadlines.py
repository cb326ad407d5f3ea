"""Expired jobs fail, and jobs that would miss their deadline at the measured rate are refused."""

import time

import pytest
from redis import Redis

from protocol.errors import DarkroomError, DeadlineExceeded, QueueFull, WouldMissDeadline
from protocol.queue.job import JobResult, JobState, JobView, Timings
from protocol.queue.job_queue import queue_name
from protocol.queue.progress import ProgressBoard
from tests.worker.consumer.harness import (
    MODEL,
    client,
    job_queue,
    outcome,
    request,
    running_worker,
    settings,
    wait_for,
)
from tests.worker.fake_engine import FakeEngine
from worker.consumer.rq_worker import RqJobSource

SOON_S, LONG_S = 0.001, 1000.0
PACE = f"darkroom:pace:{queue_name(MODEL)}"
DEADLINES = f"darkroom:deadlines:{queue_name(MODEL)}"
RESULT = JobResult(images=(), timings=Timings())


def job_source(redis_url: str) -> RqJobSource:
    return RqJobSource(client(redis_url), "worker", [MODEL], settings(redis_url))


def has_expired(view: JobView, deadline_s: float) -> bool:
    assert view.state is JobState.FAILED
    assert view.error is not None
    error = DarkroomError.from_record(view.error)
    return isinstance(error, DeadlineExceeded) and error.limit_s == deadline_s


def pass_deadline(redis_url: str, job_id: str) -> None:
    """Let a waiting job's deadline pass by the server's clock, so that no test races with time."""
    redis = client(redis_url)
    assert redis.zadd(DEADLINES, {job_id: 1.0}, xx=True, ch=True) == 1
    redis.hset(f"rq:job:{job_id}", "deadline_at", 1.0)


def test_waiting_job_past_its_deadline_never_runs(redis_url: str) -> None:
    queue = job_queue(redis_url)
    late = queue.submit(request(deadline_s=SOON_S))
    patient = queue.submit(request(deadline_s=1000.0))
    time.sleep(2 * SOON_S)
    claim = job_source(redis_url).claim(idle=True, models=[MODEL])
    assert claim is not None
    assert claim.job_id == patient
    assert claim.time_left_s is not None
    assert 0 < claim.time_left_s <= 1000
    assert has_expired(queue.view(late), SOON_S)
    progress = ProgressBoard(client(redis_url)).latest(late)
    assert progress is not None
    assert progress.state is JobState.FAILED  # also published


def test_expired_job_fails_without_a_free_worker(redis_url: str) -> None:
    queue = job_queue(redis_url)
    late, patient = queue.submit(request(deadline_s=LONG_S), client="ann"), queue.submit(request())
    pass_deadline(redis_url, late)  # only now: a submission fails expired jobs too
    source = job_source(redis_url)
    assert source.leases.fail_expired() == [late]
    assert source.leases.fail_expired() == []
    assert has_expired(queue.view(late), LONG_S)
    assert queue.position(patient) == 0


def test_expired_job_makes_room_in_the_queue_without_a_worker(redis_url: str) -> None:
    queue = job_queue(redis_url, max_queue_length=1)
    late = queue.submit(request(deadline_s=SOON_S))
    time.sleep(2 * SOON_S)
    queue.submit(request())
    assert has_expired(queue.view(late), SOON_S)


def test_worker_fails_expired_jobs_by_itself(redis_url: str) -> None:
    queue = job_queue(redis_url)
    # Steps so long that the job outlasts the test: the worker has no free slot.
    with running_worker(settings(redis_url), FakeEngine(slots=1, step_s=0.2)) as worker:
        endless = queue.submit(request(steps=1000))
        wait_for(lambda: bool(worker.consumer.claims))
        assert has_expired(outcome(queue, queue.submit(request(deadline_s=SOON_S))), SOON_S)
        queue.cancel(endless)
        outcome(queue, endless)


def test_running_job_past_its_deadline_is_dropped_before_next_step(redis_url: str) -> None:
    queue = job_queue(redis_url)
    engine = FakeEngine(step_s=0.02)
    with running_worker(settings(redis_url), engine):
        late = queue.submit(request(steps=1000, deadline_s=0.3))
        other = queue.submit(request(steps=40))
        assert has_expired(outcome(queue, late), 0.3)
        assert outcome(queue, other).state is JobState.FINISHED
        assert engine.idle


def test_requeued_job_keeps_its_deadline(redis_url: str) -> None:
    queue, source = job_queue(redis_url), job_source(redis_url)
    job_id = queue.submit(request(deadline_s=LONG_S))
    redis = client(redis_url)
    deadline = redis.zscore(DEADLINES, job_id)
    claim = source.claim(idle=True, models=[MODEL])
    assert claim is not None
    assert redis.zscore(DEADLINES, job_id) is None
    source.requeue(claim)
    assert redis.zscore(DEADLINES, job_id) == deadline
    pass_deadline(redis_url, job_id)
    assert source.leases.fail_expired() == [job_id]
    assert has_expired(queue.view(job_id), LONG_S)


def measured(redis: Redis, source: RqJobSource, seconds: float) -> None:
    """Run one job while others wait, which takes `seconds` by Redis' clock."""
    claim = source.claim(idle=True, models=[MODEL])
    assert claim is not None
    redis.hincrbyfloat(PACE, "mark", -seconds)
    source.finish(claim, RESULT)


def test_recent_rate_predicts_the_wait(redis_url: str) -> None:
    redis, source = client(redis_url), job_source(redis_url)
    queue = job_queue(redis_url, max_queue_length=4)
    ids = [queue.submit(request()) for _ in range(4)]
    assert queue.view(ids[-1]).eta_s is None  # no rate is known yet
    with pytest.raises(QueueFull) as unknown_rate:
        queue.submit(request())
    assert unknown_rate.value.retry_after_s is None
    measured(redis, source, 100.0)
    etas = [queue.view(job_id).eta_s for job_id in ids[1:]]
    assert etas[0] == 0
    assert etas[1] is not None
    assert etas[2] == pytest.approx(2 * etas[1])
    assert etas[1] == pytest.approx(100, rel=0.1)
    queue.submit(request())
    with pytest.raises(QueueFull) as refusal:
        queue.submit(request())
    assert refusal.value.retry_after_s == pytest.approx(100, rel=0.1)


def test_job_that_cannot_begin_in_time_is_refused(redis_url: str) -> None:
    queue, redis, source = job_queue(redis_url), client(redis_url), job_source(redis_url)
    for _ in range(4):
        queue.submit(request(), client="ann")
    measured(redis, source, 100.0)
    with pytest.raises(WouldMissDeadline) as refusal:
        queue.submit(request(deadline_s=250.0), client="ann")
    assert refusal.value.wait_s == pytest.approx(300, rel=0.1)
    assert refusal.value.retry_after_s == pytest.approx(50, rel=0.5)
    queue.submit(request(deadline_s=400.0), client="ann")
    queue.submit(request(deadline_s=1.0), client="bob")  # only the client's own share counts
    queue.submit(request(deadline_s=1.0, priority="high"), client="ann")


def test_idle_time_does_not_change_the_rate(redis_url: str) -> None:
    queue, redis, source = job_queue(redis_url), client(redis_url), job_source(redis_url)
    for _ in range(3):  # one at a time: no job waits, so no rate can be measured
        queue.submit(request())
        claim = source.claim(idle=True, models=[MODEL])
        assert claim is not None
        assert not redis.hexists(PACE, "mark")
        source.finish(claim, RESULT)
    job_id = [queue.submit(request()) for _ in range(2)][-1]
    assert queue.view(job_id).eta_s is None

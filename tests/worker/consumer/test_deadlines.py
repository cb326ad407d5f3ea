"""Deadlines drop what nobody waits for; the measured rate says what could not be done in time."""

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


def ledger(redis_url: str) -> RqJobSource:
    return RqJobSource(client(redis_url), "worker", [MODEL], settings(redis_url))


def is_late(view: JobView, deadline_s: float) -> bool:
    assert view.state is JobState.FAILED
    assert view.error is not None
    error = DarkroomError.from_record(view.error)
    return isinstance(error, DeadlineExceeded) and error.limit_s == deadline_s


def let_it_pass(redis_url: str, job_id: str) -> None:
    """The deadline of a waiting job is over, by the server's clock: no test races with time."""
    redis = client(redis_url)
    assert redis.zadd(DEADLINES, {job_id: 1.0}, xx=True, ch=True) == 1
    redis.hset(f"rq:job:{job_id}", "deadline_at", 1.0)


def test_a_waiting_job_past_its_deadline_is_never_drawn(redis_url: str) -> None:
    queue = job_queue(redis_url)
    late = queue.submit(request(deadline_s=SOON_S))
    patient = queue.submit(request(deadline_s=1000.0))
    time.sleep(2 * SOON_S)
    claim = ledger(redis_url).claim(idle=True, models=[MODEL])
    assert claim is not None
    assert claim.job_id == patient
    assert claim.time_left_s is not None
    assert 0 < claim.time_left_s <= 1000
    assert is_late(queue.view(late), SOON_S)
    progress = ProgressBoard(client(redis_url)).latest(late)
    assert progress is not None
    assert progress.state is JobState.FAILED  # who waits for it was told


def test_it_is_dropped_though_no_worker_has_room(redis_url: str) -> None:
    queue = job_queue(redis_url)
    late, patient = queue.submit(request(deadline_s=LONG_S), client="ann"), queue.submit(request())
    let_it_pass(redis_url, late)  # only now: a submission drops what is late, too
    ours = ledger(redis_url)
    assert ours.leases.fail_expired() == [late]
    assert ours.leases.fail_expired() == []
    assert is_late(queue.view(late), LONG_S)
    assert queue.position(patient) == 0


def test_it_makes_room_for_the_next_though_there_is_no_worker(redis_url: str) -> None:
    queue = job_queue(redis_url, max_queue_length=1)
    late = queue.submit(request(deadline_s=SOON_S))
    time.sleep(2 * SOON_S)
    queue.submit(request())
    assert is_late(queue.view(late), SOON_S)


def test_a_worker_sweeps_by_itself(redis_url: str) -> None:
    queue = job_queue(redis_url)
    # A step so long that the job outlasts any test: the worker has no room, and only sweeps.
    with running_worker(settings(redis_url), FakeEngine(slots=1, step_s=0.2)) as worker:
        endless = queue.submit(request(steps=1000))
        wait_for(lambda: bool(worker.consumer.claims))
        assert is_late(outcome(queue, queue.submit(request(deadline_s=SOON_S))), SOON_S)
        queue.cancel(endless)
        outcome(queue, endless)


def test_a_running_job_past_its_deadline_is_dropped_between_steps(redis_url: str) -> None:
    queue = job_queue(redis_url)
    engine = FakeEngine(step_s=0.02)
    with running_worker(settings(redis_url), engine):
        late = queue.submit(request(steps=1000, deadline_s=0.3))
        mate = queue.submit(request(steps=40))
        assert is_late(outcome(queue, late), 0.3)
        assert outcome(queue, mate).state is JobState.FINISHED
        assert engine.idle


def test_a_job_handed_back_keeps_its_deadline(redis_url: str) -> None:
    queue, ours = job_queue(redis_url), ledger(redis_url)
    job_id = queue.submit(request(deadline_s=LONG_S))
    redis = client(redis_url)
    deadline = redis.zscore(DEADLINES, job_id)
    claim = ours.claim(idle=True, models=[MODEL])
    assert claim is not None
    assert redis.zscore(DEADLINES, job_id) is None
    ours.requeue(claim)
    assert redis.zscore(DEADLINES, job_id) == deadline
    let_it_pass(redis_url, job_id)
    assert ours.leases.fail_expired() == [job_id]
    assert is_late(queue.view(job_id), LONG_S)


def measured(redis: Redis, ours: RqJobSource, seconds: float) -> None:
    """One job is drawn while others wait, and takes `seconds` as far as Redis can tell."""
    claim = ours.claim(idle=True, models=[MODEL])
    assert claim is not None
    redis.hincrbyfloat(PACE, "mark", -seconds)
    ours.finish(claim, RESULT)


def test_the_rate_of_late_tells_how_long_it_will_take(redis_url: str) -> None:
    redis, ours = client(redis_url), ledger(redis_url)
    queue = job_queue(redis_url, max_queue_length=4)
    ids = [queue.submit(request()) for _ in range(4)]
    assert queue.view(ids[-1]).eta_s is None  # nothing is known yet
    with pytest.raises(QueueFull) as ignorant:
        queue.submit(request())
    assert ignorant.value.retry_after_s is None
    measured(redis, ours, 100.0)
    etas = [queue.view(job_id).eta_s for job_id in ids[1:]]
    assert etas[0] == 0
    assert etas[1] is not None
    assert etas[2] == pytest.approx(2 * etas[1])
    assert etas[1] == pytest.approx(100, rel=0.1)
    queue.submit(request())
    with pytest.raises(QueueFull) as refusal:
        queue.submit(request())
    assert refusal.value.retry_after_s == pytest.approx(100, rel=0.1)


def test_what_could_not_begin_in_time_is_refused(redis_url: str) -> None:
    queue, redis, ours = job_queue(redis_url), client(redis_url), ledger(redis_url)
    for _ in range(4):
        queue.submit(request(), client="ann")
    measured(redis, ours, 100.0)
    with pytest.raises(WouldMissDeadline) as refusal:
        queue.submit(request(deadline_s=250.0), client="ann")
    assert refusal.value.wait_s == pytest.approx(300, rel=0.1)
    assert refusal.value.retry_after_s == pytest.approx(50, rel=0.5)
    queue.submit(request(deadline_s=400.0), client="ann")
    queue.submit(request(deadline_s=1.0), client="bob")  # who waits for nobody but his share
    queue.submit(request(deadline_s=1.0, priority="high"), client="ann")


def test_quiet_times_say_nothing_about_the_rate(redis_url: str) -> None:
    queue, redis, ours = job_queue(redis_url), client(redis_url), ledger(redis_url)
    for _ in range(3):  # one at a time: nobody waits, so nobody knows how fast it could go
        queue.submit(request())
        claim = ours.claim(idle=True, models=[MODEL])
        assert claim is not None
        assert not redis.hexists(PACE, "mark")
        ours.finish(claim, RESULT)
    job_id = [queue.submit(request()) for _ in range(2)][-1]
    assert queue.view(job_id).eta_s is None

"""Limits of a client: a job is charged once, and only if it is queued."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from protocol.connection.redis_client import connect
from protocol.errors import (
    ClientQueueFull,
    DarkroomError,
    QueueFull,
    QueueUnavailable,
    RateLimited,
    TooManyJobs,
    WouldMissDeadline,
)
from protocol.queue.job_queue import JobQueue, queue_name
from protocol.queue.limits import JobLimits, Rate, Rates, Window
from protocol.queue.submission import Submission
from protocol.request.object_keys import new_job_id
from protocol.request.request import GenerationRequest
from protocol.settings import Settings
from tests.worker.consumer.harness import MODEL, request

REQUESTS = Rate("requests", 10)
BUCKET = "darkroom:limits:{a}:requests"
ONE_JOB = JobLimits(((REQUESTS, 1), (Rate("pixel-steps", 600), 100)), jobs=5)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as redis:
        yield redis


def queue_of(redis: Redis, **changes: object) -> JobQueue:
    return JobQueue(redis, Settings.model_validate(changes))


def submit(
    queue: JobQueue,
    limits: JobLimits = ONE_JOB,
    job_id: str = "",
    client: str = "a",
    job: GenerationRequest | None = None,
) -> str:
    """Queue a job; raise the error that refuses it."""
    submission = Submission(job or request(), job_id or new_job_id(), client, limits=limits)
    [answer] = queue.submit_many([submission])
    if isinstance(answer, DarkroomError):
        raise answer
    return answer


def left(redis: Redis) -> dict[str, float]:
    """Return what is left of each rate of client a, and its jobs in flight."""
    found = {
        what: float(redis.hget(f"darkroom:limits:{{a}}:{what}", "left") or -1)
        for what in ("requests", "pixel-steps")
    }
    return found | {"jobs": float(redis.zcard("darkroom:limits:{a}:jobs"))}


def test_rate_is_shared_by_all_processes(redis: Redis) -> None:
    limits = JobLimits(((REQUESTS, 1),))
    processes = [queue_of(redis) for _ in range(3)]

    def is_queued(number: int) -> bool:
        try:
            submit(processes[number % 3], limits)
        except RateLimited as limited:
            assert limited.retry_after_s is not None
            assert 0 < limited.retry_after_s <= 6
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(is_queued, range(30)))
    assert sum(answers) == 10
    submit(processes[0], limits, client="b")  # only the bucket of client a is empty


def test_bucket_refills_with_time(redis: Redis) -> None:
    queue, rate = queue_of(redis), Rate("pixel-steps", 600)
    submit(queue, JobLimits(((rate, 600),)))
    half = JobLimits(((rate, 300),))
    with pytest.raises(RateLimited) as refused:
        submit(queue, half)
    assert refused.value.retry_after_s == pytest.approx(30, abs=5)
    redis.hincrby("darkroom:limits:{a}:pixel-steps", "at", -40_000)  # forty seconds ago
    submit(queue, half)
    with pytest.raises(RateLimited):
        submit(queue, half)


def test_jobs_in_flight_are_counted_until_they_have_ended(redis: Redis) -> None:
    queue, limits = queue_of(redis), JobLimits(jobs=2)
    one, _ = submit(queue, limits), submit(queue, limits)
    redis.hset(f"rq:job:{one}", "status", "started")
    with pytest.raises(TooManyJobs):
        submit(queue, limits)
    submit(queue, limits, client="b")
    redis.hset(f"rq:job:{one}", "status", "finished")
    three = submit(queue, limits)
    with pytest.raises(TooManyJobs):
        submit(queue, limits)
    redis.delete(f"rq:job:{three}")  # a job without a record does not count for ever
    submit(queue, limits)


def test_retry_costs_nothing_and_is_never_refused(redis: Redis) -> None:
    queue = queue_of(redis)
    limits = JobLimits(((Rate("requests", 1), 1), (Rate("pixel-steps", 100), 100)), jobs=1)
    job_id = submit(queue, limits)
    charged = left(redis)
    assert charged == {"requests": 0, "pixel-steps": 0, "jobs": 1}
    for _ in range(3):
        assert submit(queue, limits, job_id) == job_id
    assert left(redis) == charged
    with pytest.raises(TooManyJobs):
        submit(queue, limits)


def test_concurrent_retries_are_charged_once(redis: Redis) -> None:
    queue, job_id = queue_of(redis), new_job_id()
    limits = JobLimits(((REQUESTS, 10),), jobs=1)
    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(lambda _: submit(queue, limits, job_id), range(12))) == {job_id}


def slow_pace(redis: Redis) -> None:
    """Let the measured rate be one job in a thousand seconds."""
    redis.hset(f"darkroom:pace:{queue_name(MODEL)}", mapping={"ended": 1, "busy": 1000})


@pytest.mark.parametrize(
    ("settings", "job", "error"),
    [
        ({"max_queue_length": 1}, request(), QueueFull),
        ({"max_queue_per_client": 1}, request(), ClientQueueFull),
        ({}, request(deadline_s=10), WouldMissDeadline),
    ],
)
def test_refused_job_costs_nothing(
    redis: Redis,
    settings: dict[str, int],
    job: GenerationRequest,
    error: type[DarkroomError],
) -> None:
    queue = queue_of(redis, **settings)
    submit(queue)
    slow_pace(redis)
    charged = left(redis)
    for _ in range(20):
        with pytest.raises(error):
            submit(queue, job=job)
    assert left(redis) == charged


def test_job_refused_by_one_limit_costs_nothing_of_the_others(redis: Redis) -> None:
    queue, large = queue_of(redis), JobLimits(((REQUESTS, 1), (Rate("pixel-steps", 600), 600)), 5)
    submit(queue)
    charged = left(redis)
    for _ in range(20):
        with pytest.raises(RateLimited, match="pixel-steps"):
            submit(queue, large)
    assert left(redis) == charged


def test_redis_error_costs_nothing(redis: Redis) -> None:
    queue = queue_of(redis)
    submit(queue)
    charged = left(redis)
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueUnavailable):
            submit(queue)
    finally:
        redis.config_set("maxmemory", 0)
    assert left(redis) == charged


def test_rate_can_be_checked_without_cost(redis: Redis) -> None:
    rates, rate = Rates(redis), Rate("requests", 2)
    for _ in range(5):
        rates.check("a", rate)
    assert not redis.exists(BUCKET)
    rates.take("a", rate, 1)
    rates.check("a", rate)
    rates.take("a", rate, 5)  # all that is left
    with pytest.raises(RateLimited) as refused:
        rates.check("a", rate)
    assert refused.value.retry_after_s == pytest.approx(30, abs=1)
    assert 0 < redis.pttl(BUCKET) <= 60_000


def test_submission_of_an_unlimited_client_leaves_no_keys_of_limits(redis: Redis) -> None:
    submit(queue_of(redis), JobLimits())
    assert redis.keys("*limits*") == []


def test_inputs_are_pinned_again_when_redis_has_lost_the_pins(redis: Redis) -> None:
    key = f"inputs/{'0' * 64}"
    queue = queue_of(redis)
    job = request(task="img2img", image_key=key, strength=0.5)
    queue.pin([key])
    redis.flushall()
    submit(queue, job=job)
    assert redis.zscore("darkroom:held", key) is not None
    redis.flushall()
    redis.set(f"darkroom:condemned:{key}", 1)
    with pytest.raises(DarkroomError, match="store"):
        submit(queue, job=job)
    assert redis.keys("rq:job:*") == []


def test_what_is_left_of_a_rate(redis: Redis) -> None:
    """It comes back over the window: of a day's next to nothing while this runs."""
    rates, rate = Rates(redis), Rate("images", 100, Window.DAY)
    assert rates.left("a", rate) == 100
    rates.take("a", rate, 30)
    assert 70 <= rates.left("a", rate) < 71
    assert rates.left("b", rate) == 100
    rates.take("a", rate, 90)
    assert 0 <= rates.left("a", rate) < 1

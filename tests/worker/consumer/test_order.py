"""The order of jobs: priorities with patience, fair shares of clients, changes by RQ's tools."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.registry import (
    CanceledJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    StartedJobRegistry,
)
from rq.results import Result

from protocol.errors import ClientQueueFull, JobFailed, QueueFull, UnknownJob
from protocol.queue.job import JobState
from protocol.queue.job_queue import JobQueue, Submission, queue_name
from protocol.request.request import Priority
from tests.worker.consumer.harness import MODEL, client, job_queue, request, settings
from worker.consumer.rq_worker import RqJobSource

PATIENCE = 3


def job_source(redis_url: str, **changes: object) -> RqJobSource:
    terms = settings(redis_url, worker_priority_patience=PATIENCE, **changes)
    return RqJobSource(client(redis_url), "worker", [MODEL], terms)


def claimed(source: RqJobSource) -> list[str]:
    """Claim all jobs and return their ids in order."""
    ids = []
    while (claim := source.claim(idle=True, models=[MODEL])) is not None:
        ids.append(claim.job_id)
    return ids


def test_higher_priority_is_next_and_lower_is_served_at_times(redis_url: str) -> None:
    queue = job_queue(redis_url)
    names = {}
    for priority in ("low", "normal", "high"):
        for _ in range(8):
            names[queue.submit(request(priority=priority))] = priority[0]
    order = "".join(names[job_id] for job_id in claimed(job_source(redis_url)))
    assert order == "hhhnlhhhnlhhnlnnnlnnllll"


def test_positions_count_jobs_of_higher_priorities(redis_url: str) -> None:
    queue = job_queue(redis_url)
    low, normal, high = (queue.submit(request(priority=p)) for p in ("low", "normal", "high"))
    assert [queue.position(job_id) for job_id in (high, normal, low)] == [0, 1, 2]
    assert queue.depth(MODEL) == 3
    assert queue.depths(MODEL) == dict.fromkeys(Priority, 1)


def test_thousand_jobs_of_one_client_delay_another_by_one(redis_url: str) -> None:
    queue = job_queue(redis_url, max_queue_length=2000, max_queue_per_client=1000)
    source = job_source(redis_url)
    for _ in range(1000):
        queue.submit(request(), client="greedy")
    for _ in range(10):
        assert source.claim(idle=True, models=[MODEL]) is not None
    single = queue.submit(request(), client="modest")
    assert queue.position(single) == 0
    claim = source.claim(idle=True, models=[MODEL])
    assert claim is not None
    assert claim.job_id == single


clients = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 6)), min_size=1, max_size=40)


def test_waiting_clients_get_equal_shares_of_work(redis_url: str) -> None:
    """Check that no client is ever more than a job's work ahead of another that waits."""

    @given(jobs=clients)
    @hypothesis_settings(max_examples=40, deadline=None)
    def check(jobs: list[tuple[str, int]]) -> None:
        redis = client(redis_url)
        redis.flushall()
        queue = job_queue(redis_url)
        made = {}
        for name, steps in jobs:
            one = request(steps=steps)
            made[queue.submit(one, client=name)] = (name, one.work)
        waiting = Counter(name for name, _ in made.values())
        largest = max(work for _, work in made.values())
        served: Counter[str] = Counter()
        for job_id in claimed(job_source(redis_url)):
            name, work = made[job_id]
            served[name] += work  # type: ignore[assignment]  # floats can be counted, too
            waiting[name] -= 1
            behind = [served[other] for other in waiting if waiting[other]]
            assert all(served[name] - other <= 2 * largest + 1e-9 for other in behind)
        assert not +waiting

    check()


def test_equal_clients_are_served_in_order_of_arrival(redis_url: str) -> None:
    queue = job_queue(redis_url)
    ids = [queue.submit(request(), client=f"client {i}") for i in range(20)]
    assert claimed(job_source(redis_url)) == ids


def test_one_client_cannot_fill_the_queue(redis_url: str) -> None:
    queue = job_queue(redis_url, max_queue_length=3, max_queue_per_client=2)
    first = queue.submit(request(), client="greedy")
    queue.submit(request(priority="low"), client="greedy")
    with pytest.raises(ClientQueueFull) as refusal:
        queue.submit(request(), client="greedy")
    assert (refusal.value.depth, refusal.value.limit) == (2, 2)
    queue.submit(request(), client="modest")
    with pytest.raises(QueueFull) as full:
        queue.submit(request(), client="third")
    assert not isinstance(full.value, ClientQueueFull)
    queue.cancel(first)
    queue.submit(request(), client="greedy")


def test_bound_is_exact_for_simultaneous_submits(redis_url: str) -> None:
    queue = job_queue(redis_url, max_queue_length=5)
    answers = queue.submit_many([Submission(request()) for _ in range(9)])
    assert [isinstance(answer, QueueFull) for answer in answers] == [False] * 5 + [True] * 4
    assert queue.depth(MODEL) == 5


def test_only_its_client_and_the_operator_can_view_a_job(redis_url: str) -> None:
    queue = job_queue(redis_url)
    job_id = queue.submit(request(), client="ann")
    assert queue.view(job_id, "ann").state is queue.view(job_id).state is JobState.QUEUED
    for call in (queue.view, queue.cancel):
        with pytest.raises(UnknownJob):
            call(job_id, "bob")
    assert queue.view(job_id).state is JobState.QUEUED
    assert queue.cancel(job_id, "ann").state is JobState.CANCELLED


def test_stored_job_is_a_job_of_rq(redis_url: str) -> None:
    queue = job_queue(redis_url)
    redis = client(redis_url)
    for priority in Priority:
        job_id = queue.submit(request(priority=priority), client="ann")
        name = queue_name(MODEL, priority)
        job = Job.fetch(job_id, redis, serializer="json")
        assert (job.func_name, job.origin) == ("worker.jobs.generate", name)
        assert job.kwargs == {"request": request(priority=priority).model_dump(mode="json")}
        assert job.get_status().value == "queued"
        assert job.enqueued_at is not None
        assert Queue(name, connection=redis, serializer="json").job_ids == [job_id]
        registry = StartedJobRegistry(name, redis)
        claim = job_source(redis_url).claim(idle=True, models=[MODEL])
        assert claim is not None
        assert registry.get_job_ids(cleanup=False) == [job_id]
        assert job_source(redis_url).fail(claim, JobFailed("as expected")) is not None
        assert FailedJobRegistry(name, redis).get_job_ids(cleanup=False) == [job_id]
    assert {one.name for one in Queue.all(redis)} == {queue_name(MODEL, p) for p in Priority}


def put_by_rq(redis: Redis, queue: JobQueue) -> str:
    """Return a job that RQ removed from the list and put back, without its place."""
    job_id = queue.submit(request())
    theirs = Queue(queue_name(MODEL), connection=redis, serializer="json")
    theirs.remove(job_id)
    redis.hdel(f"rq:job:{job_id}", "place")
    theirs.push_job_id(job_id)
    return job_id


def test_job_that_rq_puts_into_the_queue_is_claimed(redis_url: str) -> None:
    queue, redis = job_queue(redis_url), client(redis_url)
    first = queue.submit(request())
    foreign = put_by_rq(redis, queue)
    last = queue.submit(request())
    assert queue.position(foreign) == 1
    assert sorted(claimed(job_source(redis_url))) == sorted([first, foreign, last])
    assert queue.depth(MODEL) == 0


def test_job_that_rq_removes_never_runs(redis_url: str) -> None:
    queue, redis = job_queue(redis_url), client(redis_url)
    removed, deleted, cancelled, kept = (queue.submit(request()) for _ in range(4))
    Queue(queue_name(MODEL), connection=redis, serializer="json").remove(removed)
    Job.fetch(deleted, redis, serializer="json").delete()
    Job.fetch(cancelled, redis, serializer="json").cancel()
    assert queue.position(kept) == 0
    assert claimed(job_source(redis_url)) == [kept]


def test_doubled_entry_runs_once(redis_url: str) -> None:
    queue, redis = job_queue(redis_url), client(redis_url)
    ids = [queue.submit(request()) for _ in range(2)]
    redis.rpush(f"rq:queue:{queue_name(MODEL)}", ids[0])
    assert claimed(job_source(redis_url)) == ids


def test_key_names_are_those_of_rq(redis_url: str) -> None:
    redis = client(redis_url)
    source = job_source(redis_url)
    job_id = job_queue(redis_url).submit(request())
    claim = source.claim(idle=True, models=[MODEL])
    assert claim is not None
    name = queue_name(MODEL)
    assert redis.exists(Job.key_for(job_id), StartedJobRegistry(name, redis).key) == 2
    job = Job.fetch(job_id, redis, serializer="json")
    [execution] = job.get_executions()
    assert execution.id == claim.execution_id
    assert redis.sismember("rq:worker:worker:executions", claim.member)
    source.fail(claim, JobFailed("as expected"))
    assert redis.exists(Result.get_key(job_id)) == 1  # type: ignore[no-untyped-call]
    assert FinishedJobRegistry(name, redis).key.rpartition(":")[2] == name
    assert CanceledJobRegistry(name, redis).get_job_ids(cleanup=False) == []


def test_empty_lane_leaves_no_keys(redis_url: str) -> None:
    queue, redis = job_queue(redis_url), client(redis_url)
    for priority in Priority:
        queue.submit(request(priority=priority, deadline_s=60.0), client="ann")
    claimed(job_source(redis_url))
    kept = {str(key).split(":")[1] for key in redis.keys("darkroom:*")}
    assert kept <= {"leases", "claim", "pace", "index"}

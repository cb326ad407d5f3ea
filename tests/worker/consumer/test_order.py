"""Who is next: priorities with patience, fair shares of clients, and what RQ's own tools do."""

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


def ledger(redis_url: str, **changes: object) -> RqJobSource:
    terms = settings(redis_url, worker_priority_patience=PATIENCE, **changes)
    return RqJobSource(client(redis_url), "worker", [MODEL], terms)


def claimed(ledger: RqJobSource) -> list[str]:
    """Every job there is, in the order they are given out."""
    ids = []
    while (claim := ledger.claim(idle=True, models=[MODEL])) is not None:
        ids.append(claim.job_id)
    return ids


def test_the_higher_priority_is_next_and_the_lower_has_its_turns(redis_url: str) -> None:
    queue = job_queue(redis_url)
    names = {}
    for priority in ("low", "normal", "high"):
        for _ in range(8):
            names[queue.submit(request(priority=priority))] = priority[0]
    order = "".join(names[job_id] for job_id in claimed(ledger(redis_url)))
    assert order == "hhhnlhhhnlhhnlnnnlnnllll"


def test_positions_count_those_of_higher_priorities(redis_url: str) -> None:
    queue = job_queue(redis_url)
    low, normal, high = (queue.submit(request(priority=p)) for p in ("low", "normal", "high"))
    assert [queue.position(job_id) for job_id in (high, normal, low)] == [0, 1, 2]
    assert queue.depth(MODEL) == 3
    assert queue.depths(MODEL) == dict.fromkeys(Priority, 1)


def test_a_thousand_jobs_of_one_client_delay_anothers_by_one(redis_url: str) -> None:
    queue = job_queue(redis_url, max_queue_length=2000, max_queue_per_client=1000)
    ours = ledger(redis_url)
    for _ in range(1000):
        queue.submit(request(), client="greedy")
    for _ in range(10):
        assert ours.claim(idle=True, models=[MODEL]) is not None
    single = queue.submit(request(), client="modest")
    assert queue.position(single) == 0
    claim = ours.claim(idle=True, models=[MODEL])
    assert claim is not None
    assert claim.job_id == single


clients = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 6)), min_size=1, max_size=40)


def test_waiting_clients_get_equal_shares_of_work(redis_url: str) -> None:
    """At no time has one client been given more than a job's work ahead of another that waited."""

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
        for job_id in claimed(ledger(redis_url)):
            name, work = made[job_id]
            served[name] += work  # type: ignore[assignment]  # floats can be counted, too
            waiting[name] -= 1
            behind = [served[other] for other in waiting if waiting[other]]
            assert all(served[name] - other <= 2 * largest + 1e-9 for other in behind)
        assert not +waiting

    check()


def test_equal_clients_are_served_as_they_came(redis_url: str) -> None:
    queue = job_queue(redis_url)
    ids = [queue.submit(request(), client=f"client {i}") for i in range(20)]
    assert claimed(ledger(redis_url)) == ids


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


def test_the_bound_is_exact_for_submits_of_one_moment(redis_url: str) -> None:
    queue = job_queue(redis_url, max_queue_length=5)
    answers = queue.submit_many([Submission(request()) for _ in range(9)])
    assert [isinstance(answer, QueueFull) for answer in answers] == [False] * 5 + [True] * 4
    assert queue.depth(MODEL) == 5


def test_a_job_is_shown_to_its_client_and_the_operator_only(redis_url: str) -> None:
    queue = job_queue(redis_url)
    job_id = queue.submit(request(), client="ann")
    assert queue.view(job_id, "ann").state is queue.view(job_id).state is JobState.QUEUED
    for call in (queue.view, queue.cancel):
        with pytest.raises(UnknownJob):
            call(job_id, "bob")
    assert queue.view(job_id).state is JobState.QUEUED
    assert queue.cancel(job_id, "ann").state is JobState.CANCELLED


def test_what_is_written_is_a_job_of_rqs(redis_url: str) -> None:
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
        claim = ledger(redis_url).claim(idle=True, models=[MODEL])
        assert claim is not None
        assert registry.get_job_ids(cleanup=False) == [job_id]
        assert ledger(redis_url).fail(claim, JobFailed("so it was")) is not None
        assert FailedJobRegistry(name, redis).get_job_ids(cleanup=False) == [job_id]
    assert {one.name for one in Queue.all(redis)} == {queue_name(MODEL, p) for p in Priority}


def put_by_rq(redis: Redis, queue: JobQueue) -> str:
    """A job taken out of the list and put back by RQ's own means: it has lost its place."""
    job_id = queue.submit(request())
    theirs = Queue(queue_name(MODEL), connection=redis, serializer="json")
    theirs.remove(job_id)
    redis.hdel(f"rq:job:{job_id}", "place")
    theirs.push_job_id(job_id)
    return job_id


def test_what_rqs_tools_put_into_the_queue_is_found(redis_url: str) -> None:
    queue, redis = job_queue(redis_url), client(redis_url)
    first = queue.submit(request())
    stray = put_by_rq(redis, queue)
    last = queue.submit(request())
    assert queue.position(stray) == 1
    assert sorted(claimed(ledger(redis_url))) == sorted([first, stray, last])
    assert queue.depth(MODEL) == 0


def test_what_rqs_tools_take_out_is_not_drawn(redis_url: str) -> None:
    queue, redis = job_queue(redis_url), client(redis_url)
    removed, deleted, cancelled, kept = (queue.submit(request()) for _ in range(4))
    Queue(queue_name(MODEL), connection=redis, serializer="json").remove(removed)
    Job.fetch(deleted, redis, serializer="json").delete()
    Job.fetch(cancelled, redis, serializer="json").cancel()
    assert queue.position(kept) == 0
    assert claimed(ledger(redis_url)) == [kept]


def test_a_doubled_entry_is_drawn_once(redis_url: str) -> None:
    queue, redis = job_queue(redis_url), client(redis_url)
    ids = [queue.submit(request()) for _ in range(2)]
    redis.rpush(f"rq:queue:{queue_name(MODEL)}", ids[0])
    assert claimed(ledger(redis_url)) == ids


def test_names_of_keys_are_rqs(redis_url: str) -> None:
    redis = client(redis_url)
    ours = ledger(redis_url)
    job_id = job_queue(redis_url).submit(request())
    claim = ours.claim(idle=True, models=[MODEL])
    assert claim is not None
    name = queue_name(MODEL)
    assert redis.exists(Job.key_for(job_id), StartedJobRegistry(name, redis).key) == 2
    job = Job.fetch(job_id, redis, serializer="json")
    [execution] = job.get_executions()
    assert execution.id == claim.execution_id
    assert redis.sismember("rq:worker:worker:executions", claim.member)
    ours.fail(claim, JobFailed("so it was"))
    assert redis.exists(Result.get_key(job_id)) == 1  # type: ignore[no-untyped-call]
    assert FinishedJobRegistry(name, redis).key.rpartition(":")[2] == name
    assert CanceledJobRegistry(name, redis).get_job_ids(cleanup=False) == []


def test_no_lane_is_remembered_once_it_is_empty(redis_url: str) -> None:
    queue, redis = job_queue(redis_url), client(redis_url)
    for priority in Priority:
        queue.submit(request(priority=priority, deadline_s=60.0), client="ann")
    claimed(ledger(redis_url))
    kept = {str(key).split(":")[1] for key in redis.keys("darkroom:*")}
    assert kept <= {"leases", "claim", "pace"}

"""A dialect's object lives with its job, is seen by its owner only, and is deleted with the job."""

import pytest

from protocol.errors import InvalidRequest, UnknownJob
from protocol.queue.dialect_jobs import MAX_BYTES, DialectJobs, DialectObject
from protocol.queue.job_list import JobFilter, JobList
from protocol.queue.job_queue import JobQueue, Submission
from protocol.request.object_keys import new_job_id
from tests.worker.consumer.harness import MODEL, client, job_queue, request, settings
from worker.consumer.rq_worker import RqJobSource

OBJECT = DialectObject(dialect="replicate", data={"input": {"prompt": "x", "seed": None}})


def submit(queue: JobQueue, owner: str, kept: DialectObject | None = OBJECT) -> str:
    [job_id] = queue.submit_many([Submission(request(), client=owner, dialect_object=kept)])
    assert isinstance(job_id, str)
    return job_id


def test_object_is_read_by_its_owner_and_the_operator_only(redis_url: str) -> None:
    jobs, job_id = DialectJobs(client(redis_url)), submit(job_queue(redis_url), "ann")
    for owner in ("ann", None):
        found = jobs.read(job_id, "replicate", owner)
        assert found.object == OBJECT
        assert found.created_at
        assert found.started_at is found.ended_at is None
    for dialect, owner in (("replicate", "bob"), ("replicate", ""), ("fal", "ann")):
        with pytest.raises(UnknownJob):
            jobs.read(job_id, dialect, owner)


def test_jobs_without_an_object_and_other_ids_are_left_out(redis_url: str) -> None:
    queue, jobs = job_queue(redis_url), DialectJobs(client(redis_url))
    kept, bare = submit(queue, "ann"), submit(queue, "ann", None)
    ids = [bare, new_job_id(), "*", kept]
    found = jobs.read_many(ids, "replicate", "ann")
    assert [one and one.id for one in found] == [None, None, None, kept]


def test_times_follow_the_job(redis_url: str) -> None:
    queue, jobs = job_queue(redis_url), DialectJobs(client(redis_url))
    job_id = submit(queue, "ann")
    source = RqJobSource(client(redis_url), "worker", [MODEL], settings(redis_url))
    assert source.claim(idle=True, models=[MODEL])
    begun = jobs.read(job_id, "replicate", "ann")
    assert begun.created_at
    assert begun.started_at
    assert begun.ended_at is None
    assert begun.created_at <= begun.started_at


@pytest.mark.parametrize("runs", [False, True])
def test_object_is_deleted_with_its_job(redis_url: str, runs: bool) -> None:
    queue, jobs = job_queue(redis_url), DialectJobs(client(redis_url))
    job_id = submit(queue, "ann")
    if runs:
        source = RqJobSource(client(redis_url), "worker", [MODEL], settings(redis_url))
        assert source.claim(idle=True, models=[MODEL])
    queue.delete(job_id, "ann")
    with pytest.raises(UnknownJob):
        jobs.read(job_id, "replicate", "ann")
    if not runs:
        texts = [client(redis_url).dump(name) for name in client(redis_url).scan_iter("*")]
        assert not any(b"prompt" in text for text in texts)  # type: ignore[operator]


def test_list_has_the_jobs_of_a_dialect(redis_url: str) -> None:
    queue = job_queue(redis_url)
    mine, other = submit(queue, "ann"), submit(queue, "ann", DialectObject(dialect="fal", data={}))
    submit(queue, "ann", None)
    for dialect, expected in (("replicate", mine), ("fal", other)):
        page = JobList(client(redis_url)).page("ann", JobFilter(dialect=dialect), 10)
        assert [job.view.id for job in page.jobs] == [expected]


def test_large_object_is_refused() -> None:
    OBJECT.check_size("input")
    large = DialectObject(dialect="replicate", data={"input": "x" * MAX_BYTES})
    with pytest.raises(InvalidRequest, match="input"):
        large.check_size("input")

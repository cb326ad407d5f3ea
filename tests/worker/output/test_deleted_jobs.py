"""Deleted jobs: their objects are deleted, also after a crash, and those of others are kept."""

from pathlib import Path

import pytest
from redis import Redis

from protocol.errors import StoreUnavailable, UnknownJob
from protocol.queue.job import JobResult, Timings
from protocol.queue.job_queue import JobQueue
from protocol.request.object_keys import OutputFormat, input_key, new_job_id, result_key
from protocol.storage.deleted_jobs import DELETIONS, DeletedJobs
from protocol.storage.object_store import ObjectStore
from protocol.storage.pins import Pins
from tests.worker.consumer.harness import MODEL, client, job_queue, request, settings
from worker.consumer.leases import JobStatus
from worker.consumer.rq_worker import RqJobSource


class Jobs:
    """A queue, a store and a worker's source of jobs."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.redis: Redis = client(redis_url)
        self.store = ObjectStore.open(folder.as_uri())
        self.queue: JobQueue = job_queue(redis_url)
        terms = settings(redis_url)
        self.source = RqJobSource(self.redis, "worker", [MODEL], terms)
        self.pins = Pins(self.redis, terms)
        self.deleted_jobs = DeletedJobs(self.redis, self.store, self.pins)

    def submit(self, image: bytes = b"an image") -> str:
        """Pin, write and submit, as the service does."""
        job_id, key = new_job_id(), input_key(image)
        self.queue.pin([key], job_id)
        self.store.put(key, image, "image/png")
        return self.queue.submit(request(task="img2img", strength=0.5, image_key=key), job_id)

    def write_result(self, job_id: str) -> str:
        key = result_key(job_id, 0, OutputFormat.PNG)
        self.store.put(key, b"a result", "image/png")
        return key

    def make_due(self) -> None:
        for note in self.redis.zrange(DELETIONS, 0, -1):
            assert isinstance(note, bytes)
            self.redis.zadd(DELETIONS, {note: 0})


@pytest.fixture
def jobs(redis_url: str, tmp_path: Path) -> Jobs:
    return Jobs(redis_url, tmp_path)


def test_running_job_is_deleted_when_it_ends(jobs: Jobs) -> None:
    job_id = jobs.submit()
    claim = jobs.source.claim(True, [MODEL])
    assert claim is not None
    jobs.queue.delete(job_id)
    with pytest.raises(UnknownJob):
        jobs.queue.view(job_id)
    assert jobs.source.leases.cancel_requested([job_id]) == {job_id}
    key = jobs.write_result(job_id)
    assert jobs.source.cancel(claim) is JobStatus.CANCELED
    assert jobs.redis.exists(f"rq:job:{job_id}") == 0
    jobs.deleted_jobs.collect()
    assert jobs.store.has(key)  # a moment later, when no thread of the worker writes any more
    jobs.make_due()
    jobs.deleted_jobs.collect()
    assert not jobs.store.has(key)
    assert not jobs.store.has(input_key(b"an image"))
    assert jobs.redis.exists(DELETIONS) == 0


def test_job_that_finishes_while_it_is_deleted_is_deleted_all_the_same(jobs: Jobs) -> None:
    job_id = jobs.submit()
    claim = jobs.source.claim(True, [MODEL])
    assert claim is not None
    jobs.queue.delete(job_id)
    jobs.source.finish(claim, JobResult(images=(), timings=Timings()))
    assert [key.decode() for key in jobs.redis.scan_iter(f"*{job_id}*")] == [
        f"darkroom:deleted:{job_id}"
    ]


def test_deletion_that_was_interrupted_is_finished_later(jobs: Jobs, tmp_path: Path) -> None:
    class BrokenStore(ObjectStore):
        def delete(self, key: str) -> None:
            raise StoreUnavailable

    job_id = jobs.submit()
    key = jobs.write_result(job_id)
    jobs.queue.delete(job_id)
    broken = BrokenStore.open(tmp_path.as_uri())
    with pytest.raises(StoreUnavailable):
        DeletedJobs(jobs.redis, broken, jobs.pins).collect()
    assert jobs.store.has(key)
    jobs.deleted_jobs.collect()
    assert not jobs.store.has(key)
    assert not jobs.store.has(input_key(b"an image"))


def test_input_that_is_pinned_again_stays(jobs: Jobs) -> None:
    """Between the deletion of a job and that of its input, another job needs the same input."""
    job_id = jobs.submit()
    jobs.queue.delete(job_id)
    other = jobs.submit()
    jobs.deleted_jobs.collect()
    assert jobs.store.has(input_key(b"an image"))
    jobs.queue.delete(other)
    jobs.deleted_jobs.collect()
    assert not jobs.store.has(input_key(b"an image"))


def test_refused_job_does_not_keep_its_input(redis_url: str, tmp_path: Path) -> None:
    jobs = Jobs(redis_url, tmp_path)
    jobs.queue = job_queue(redis_url, max_queue_length=1)
    job_id = jobs.submit()
    with pytest.raises(Exception, match="waiting"):
        jobs.submit()
    jobs.queue.delete(job_id)
    jobs.deleted_jobs.collect()
    assert not jobs.store.has(input_key(b"an image"))

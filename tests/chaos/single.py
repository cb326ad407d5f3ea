"""A single worker process among faults: a real worker but for its engine, pictures in a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.queue.job_queue import JobQueue
from tests.chaos.bucket import Bucket
from tests.worker.consumer.harness import ChildWorker, child_worker

# What to look for in the traffic with Redis.
COMPRESSED = b"\r\nx"  # how a job's data begins, which only the answer to a claim brings
RESULT = b"return_value"  # in what is written when a job has finished


@contextmanager
def worker(redis_url: str, bucket: Bucket, step_s: float = 0.02) -> Iterator[ChildWorker]:
    """A child worker that keeps its pictures in the bucket."""
    with child_worker(redis_url, Path.cwd(), step_s, **bucket.environment) as child:
        yield child


def drawing(queue: JobQueue, job_id: str) -> bool:
    """Whether a worker has begun to denoise the job."""
    progress = queue.view(job_id).progress
    return progress is not None and progress.step > 0

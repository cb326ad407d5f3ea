"""A single worker process with faults: a real worker except for its engine, images in a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.queue.job_queue import JobQueue
from tests.chaos.bucket import Bucket
from tests.worker.consumer.harness import ChildWorker, child_worker

# Patterns in the traffic with Redis.
COMPRESSED = b"\r\nx"  # start of a job's data, which only the response to a claim contains
RESULT = b"return_value"  # part of the request that marks a job as finished


@contextmanager
def worker(redis_url: str, bucket: Bucket, step_s: float = 0.02) -> Iterator[ChildWorker]:
    """Run a worker process that stores its images in the bucket."""
    with child_worker(redis_url, Path.cwd(), step_s, 0.0, **bucket.environment) as child:
        yield child


def generating(queue: JobQueue, job_id: str) -> bool:
    """Return True if a worker has started to denoise the job."""
    progress = queue.view(job_id).progress
    return progress is not None and progress.step > 0

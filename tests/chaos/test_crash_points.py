"""Tests of workers that are killed between two of their steps: the job ends once, with its images.

A proxy in front of Redis, or the bucket, holds one message back, and the worker is killed while it
waits for that message.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

import pytest

from protocol.queue.job import JobState
from protocol.queue.job_queue import JobQueue
from protocol.request.object_keys import new_job_id
from tests.chaos.bucket import Bucket
from tests.chaos.journal import read_journal
from tests.chaos.proxy import Proxy
from tests.chaos.single import COMPRESSED, RESULT, generating, worker
from tests.support.redis_server import RedisServer
from tests.worker.consumer.harness import job_queue, outcome, request, wait_for

pytestmark = pytest.mark.early


@dataclass(frozen=True)
class Scene:
    queue: JobQueue
    proxy: Proxy
    bucket: Bucket


Moment = Callable[[Scene, bytes], Callable[[], bool]]


def is_set(event: Event) -> Callable[[], bool]:
    return event.is_set


# Each entry is called before the job is submitted, and returns the check that its moment has come.
MOMENTS: dict[str, Moment] = {
    "claimed, response lost": lambda scene, job: is_set(
        scene.proxy.hold_response(job, COMPRESSED).triggered
    ),
    "generating": lambda scene, job: lambda: generating(scene.queue, job.decode()),
    "generated, not stored": lambda scene, _: is_set(scene.bucket.hold_write(False).arrived),
    "stored, response lost": lambda scene, _: is_set(scene.bucket.hold_write(True).arrived),
    "stored, not marked finished": lambda scene, job: is_set(
        scene.proxy.hold_request(job, RESULT).triggered
    ),
    "finished, response lost": lambda scene, job: is_set(
        scene.proxy.hold_response_to(job, RESULT).triggered
    ),
}
SAMPLE = {"generating", "stored, not marked finished", "finished, response lost"}
ONE_ATTEMPT = {"finished, response lost"}


@pytest.mark.parametrize(
    "moment",
    [pytest.param(m, marks=[] if m in SAMPLE else [pytest.mark.long]) for m in MOMENTS],
)
def test_job_of_a_killed_worker_ends_once(moment: str) -> None:
    with (
        RedisServer(appendfsync="always") as server,
        Proxy(server.port) as proxy,
        Bucket() as bucket,
    ):
        queue = job_queue(server.url)
        with worker(proxy.url, bucket) as killed:
            # One job before, so that the server has the scripts.
            assert outcome(queue, queue.submit(request())).state is JobState.FINISHED
            job_id = new_job_id()
            has_come = MOMENTS[moment](Scene(queue, proxy, bucket), job_id.encode())
            queue.submit(request(steps=20, n=2), job_id)
            wait_for(has_come)
            killed.kill()
        with worker(server.url, bucket):
            view = outcome(queue, job_id)
        assert view.state is JobState.FINISHED
        assert view.result is not None
        for image in view.result.images:
            assert len(bucket.objects[image.key]) == image.bytes
        history = read_journal(server.folder).jobs[job_id]
        assert history.ended_once
        assert len(history.attempts) == (1 if moment in ONE_ATTEMPT else 2)

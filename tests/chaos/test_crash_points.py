"""A worker killed between any two of its steps: the job ends once, with its pictures.

The worker is stopped from outside: a proxy before Redis, or the bucket itself, holds one message
back, and while the worker waits for it, it is killed.
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
from tests.chaos.single import COMPRESSED, RESULT, drawing, worker
from tests.support.redis_server import RedisServer
from tests.worker.consumer.harness import job_queue, outcome, request, wait_for

pytestmark = pytest.mark.early


@dataclass(frozen=True)
class Scene:
    queue: JobQueue
    proxy: Proxy
    bucket: Bucket


Moment = Callable[[Scene, bytes], Callable[[], bool]]


def sprung(event: Event) -> Callable[[], bool]:
    return event.is_set


# Each is set up before the job is submitted, and gives what tells that the moment has come.
MOMENTS: dict[str, Moment] = {
    "claimed, and not heard of it": lambda scene, job: sprung(
        scene.proxy.hold_answer(job, COMPRESSED).sprung
    ),
    "drawing": lambda scene, job: lambda: drawing(scene.queue, job.decode()),
    "drawn, not stored": lambda scene, _: sprung(scene.bucket.hold_write(False).sprung),
    "stored, and not heard of it": lambda scene, _: sprung(scene.bucket.hold_write(True).sprung),
    "stored, not marked finished": lambda scene, job: sprung(
        scene.proxy.hold_request(job, RESULT).sprung
    ),
    "finished, and not heard of it": lambda scene, job: sprung(
        scene.proxy.hold_answer_to(job, RESULT).sprung
    ),
}
SAMPLE = {"drawing", "stored, not marked finished", "finished, and not heard of it"}
BEGUN_ONCE = {"finished, and not heard of it"}


@pytest.mark.parametrize(
    "moment",
    [pytest.param(m, marks=[] if m in SAMPLE else [pytest.mark.long]) for m in MOMENTS],
)
def test_a_worker_killed_when_it_has(moment: str) -> None:
    with (
        RedisServer(appendfsync="always") as server,
        Proxy(server.port) as proxy,
        Bucket() as bucket,
    ):
        queue = job_queue(server.url)
        with worker(proxy.url, bucket) as doomed:
            # Once through, so that the scripts are known to the server.
            assert outcome(queue, queue.submit(request())).state is JobState.FINISHED
            job_id = new_job_id()
            has_come = MOMENTS[moment](Scene(queue, proxy, bucket), job_id.encode())
            queue.submit(request(steps=20, n=2), job_id)
            wait_for(has_come)
            doomed.kill()
        with worker(server.url, bucket):
            view = outcome(queue, job_id)
        assert view.state is JobState.FINISHED
        assert view.result is not None
        for image in view.result.images:
            assert len(bucket.objects[image.key]) == image.bytes
        history = read_journal(server.folder).jobs[job_id]
        assert history.ended_once
        assert len(history.begun) == (1 if moment in BEGUN_ONCE else 2)

"""Tests of outages of Redis, of the store and of a worker: a running job is kept and ends once."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from protocol.queue.job import JobState
from protocol.queue.job_queue import JobQueue
from protocol.request.object_keys import new_job_id
from tests.chaos.bucket import Bucket
from tests.chaos.journal import History, read_journal
from tests.chaos.proxy import Proxy
from tests.chaos.single import RESULT, generating, worker
from tests.support.redis_server import RedisServer
from tests.worker.consumer.harness import client, job_queue, outcome, request, settings, wait_for

pytestmark = pytest.mark.early

STORE_FAULTS = {"down": True, "full": True, "slow_s": 0.5, "unanswered_writes": 2}


@dataclass(frozen=True)
class Scene:
    server: RedisServer
    proxy: Proxy
    bucket: Bucket
    queue: JobQueue

    def history(self, job_id: str) -> History:
        return read_journal(self.server.folder).jobs[job_id]


@pytest.fixture
def scene() -> Iterator[Scene]:
    with (
        RedisServer(appendfsync="always") as server,
        Proxy(server.port) as proxy,
        Bucket() as bucket,
    ):
        yield Scene(server, proxy, bucket, job_queue(server.url))


def test_redis_outage_longer_than_the_leases_restarts_no_job(scene: Scene) -> None:
    lease_s = settings(scene.server.url).worker_lease_s
    with worker(scene.proxy.url, scene.bucket, step_s=0.05), worker(scene.proxy.url, scene.bucket):
        ids = [scene.queue.submit(request(steps=80)) for _ in range(3)]
        wait_for(lambda: all(generating(scene.queue, job_id) for job_id in ids))
        scene.server.kill()
        time.sleep(2.5 * lease_s)
        scene.server.start()
        for job_id in ids:
            assert outcome(scene.queue, job_id).state is JobState.FINISHED
    for job_id in ids:
        history = scene.history(job_id)
        assert history.ended_once
        assert len(history.attempts) == 1


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_image_is_kept_during_a_store_fault(scene: Scene, fault: str) -> None:
    setattr(scene.bucket, fault, STORE_FAULTS[fault])
    with worker(scene.server.url, scene.bucket):
        job_id = scene.queue.submit(request(n=2))
        if fault in ("down", "full"):
            wait_for(lambda: scene.bucket.refused >= 4)
            assert scene.queue.view(job_id).state is JobState.RUNNING
            scene.bucket.recover()
        view = outcome(scene.queue, job_id)
    assert view.state is JobState.FINISHED
    assert view.result is not None
    assert [len(scene.bucket.objects[image.key]) for image in view.result.images] == [
        image.bytes for image in view.result.images
    ]
    assert len(scene.history(job_id).attempts) == 1


def test_store_outage_does_not_delay_jobs_without_images(scene: Scene) -> None:
    scene.bucket.down = True
    with worker(scene.server.url, scene.bucket):
        blocked = scene.queue.submit(request(n=4))
        wait_for(lambda: scene.bucket.refused >= 2)
        unwanted = scene.queue.submit(request(steps=1000))
        wait_for(lambda: generating(scene.queue, unwanted))
        scene.queue.cancel(unwanted)
        assert outcome(scene.queue, unwanted).state is JobState.CANCELLED
        assert scene.queue.view(blocked).state is JobState.RUNNING
        scene.bucket.recover()
        assert outcome(scene.queue, blocked).state is JobState.FINISHED


@pytest.mark.parametrize(
    "moment",
    ["generated, not stored", pytest.param("stored, not marked finished", marks=pytest.mark.long)],
)
def test_worker_frozen_until_another_has_finished_its_job(scene: Scene, moment: str) -> None:
    """It continues after another worker has finished the job, and nothing changes."""
    with worker(scene.proxy.url, scene.bucket) as frozen:
        job_id = new_job_id()
        if moment == "generated, not stored":
            write = scene.bucket.hold_write(carried_out=False)
            held = write.arrived
        else:
            held = scene.proxy.hold_request(job_id.encode(), RESULT).triggered
        scene.queue.submit(request(), job_id)
        wait_for(held.is_set)
        frozen.send(signal.SIGSTOP)
        with worker(scene.server.url, scene.bucket):
            view = outcome(scene.queue, job_id)
        assert view.state is JobState.FINISHED
        images = dict(scene.bucket.objects)
        if moment == "generated, not stored":
            write.released.set()
        else:
            scene.proxy.reset()
        frozen.send(signal.SIGCONT)
        frozen.send(signal.SIGTERM)
        assert frozen.process.wait(20) == 0
    assert scene.queue.view(job_id).result == view.result
    assert scene.bucket.objects == images
    assert scene.history(job_id).ended_once
    assert client(scene.server.url).xlen(f"rq:results:{job_id}") == 1


def test_second_sigterm_requeues_at_once(scene: Scene) -> None:
    with worker(scene.server.url, scene.bucket) as child:
        job_id = scene.queue.submit(request(steps=1000))
        wait_for(lambda: generating(scene.queue, job_id))
        child.send(signal.SIGTERM)
        time.sleep(0.5)  # two signals at the same time count as one
        child.send(signal.SIGTERM)
        assert child.process.wait(20) == 0
    view = scene.queue.view(job_id)
    assert (view.state, view.position) == (JobState.QUEUED, 0)
    assert client(scene.server.url).hget(f"rq:job:{job_id}", "crashes") is None


def test_dead_connection_loses_no_lease(scene: Scene) -> None:
    """Nothing is refused and no connection breaks: one response to a heartbeat never arrives."""
    with worker(scene.proxy.url, scene.bucket, step_s=0.05):
        ids = [scene.queue.submit(request(steps=60)) for _ in range(4)]
        wait_for(lambda: all(generating(scene.queue, job_id) for job_id in ids))
        with worker(scene.server.url, scene.bucket):
            for _ in range(2):
                held = scene.proxy.hold_response_to(b"rq:worker:", b"last_heartbeat")
                wait_for(held.triggered.is_set)
            for job_id in ids:
                assert outcome(scene.queue, job_id).state is JobState.FINISHED
    assert [len(scene.history(job_id).attempts) for job_id in ids] == [1] * len(ids)

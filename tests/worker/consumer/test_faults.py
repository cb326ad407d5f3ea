"""Accepted jobs survive dead and frozen workers, and outages of Redis and the store."""

import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
from obstore.store import MemoryStore
from redis import Redis
from rq import SimpleWorker
from rq.job import Job

from protocol.errors import StoreUnavailable
from protocol.queue.job import JobState
from protocol.queue.job_queue import JobQueue
from protocol.request.request import Priority
from protocol.settings import Settings
from protocol.storage.object_store import ObjectStore
from tests.support.redis_server import RedisServer, free_port
from tests.worker.consumer.harness import (
    MODEL,
    child_worker,
    client,
    job_queue,
    outcome,
    request,
    running_worker,
    settings,
    wait_for,
)
from tests.worker.fake_engine import FakeEngine
from worker.consumer.rq_worker import EXIT_HANGING

pytestmark = pytest.mark.early


def is_running(queue: JobQueue, job_id: str) -> bool:
    """Return True if a worker has begun to denoise the job."""
    progress = queue.view(job_id).progress
    return progress is not None and progress.step > 0


def results(redis_url: str, job_id: str) -> int:
    """Return the number of endings that RQ has stored for the job."""
    return int(client(redis_url).xlen(f"rq:results:{job_id}"))


def worker_of(redis_url: str, job_id: str) -> object:
    return client(redis_url).hget(f"rq:job:{job_id}", "worker_name")


def test_jobs_of_killed_worker_are_finished_by_another(redis_url: str, tmp_path: Path) -> None:
    queue = job_queue(redis_url)
    ids = [queue.submit(request(steps=50)) for _ in range(3)]
    with child_worker(redis_url, tmp_path) as killed:
        wait_for(lambda: is_running(queue, ids[0]))
        killed.kill()
    with running_worker(settings(redis_url)):
        for job_id in ids:
            assert outcome(queue, job_id).state is JobState.FINISHED
            assert results(redis_url, job_id) == 1


def test_job_that_kills_workers_fails_alone(redis_url: str, tmp_path: Path) -> None:
    queue = job_queue(redis_url)
    others = [queue.submit(request(prompt=f"other {i}")) for i in range(3)]
    poison = queue.submit(request(prompt="poison"))
    deaths = 0
    while queue.view(poison).state is not JobState.FAILED:
        with child_worker(redis_url, tmp_path) as child:
            wait_for(
                lambda child=child: (  # type: ignore[misc]
                    child.process.poll() is not None or queue.view(poison).state is JobState.FAILED
                )
            )
            deaths += child.process.poll() is not None
    error = queue.view(poison).error
    assert error is not None
    assert "broke down" in error.message
    assert deaths == settings(redis_url).worker_max_crashes
    with running_worker(settings(redis_url)):
        for job_id in others:
            assert outcome(queue, job_id).state is JobState.FINISHED


def test_frozen_worker_that_resumes_late_changes_nothing(redis_url: str, tmp_path: Path) -> None:
    queue = job_queue(redis_url)
    with child_worker(redis_url, tmp_path, step_s=0.05) as frozen:
        job_id = queue.submit(request(steps=30))
        wait_for(lambda: is_running(queue, job_id))
        frozen.send(signal.SIGSTOP)
        with running_worker(settings(redis_url)) as worker:
            view = outcome(queue, job_id)
            assert view.state is JobState.FINISHED
            frozen.send(signal.SIGCONT)
            frozen.send(signal.SIGTERM)
            frozen.process.wait(20)
            assert queue.view(job_id).result == view.result
            assert worker_of(redis_url, job_id) == worker.name.encode()
    assert results(redis_url, job_id) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_finishes_its_job_after_a_signal_and_claims_no_more(
    redis_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    queue = job_queue(redis_url)
    with child_worker(redis_url, tmp_path) as child:
        job_id = queue.submit(request(steps=20))
        wait_for(lambda: is_running(queue, job_id))
        child.send(number)
        assert outcome(queue, job_id).state is JobState.FINISHED
        late = queue.submit(request())
        assert child.process.wait(20) == 0
    assert queue.view(late).state is JobState.QUEUED


def test_worker_whose_engine_hangs_ends_and_another_runs_its_job(
    redis_url: str, tmp_path: Path
) -> None:
    queue = job_queue(redis_url)
    job_id = queue.submit(request())
    with child_worker(redis_url, tmp_path, 1000.0, DARKROOM_WORKER_STALL_S="0.5") as child:
        assert child.process.wait(20) == EXIT_HANGING
    with running_worker(settings(redis_url)):
        assert outcome(queue, job_id).state is JobState.FINISHED


def test_job_not_finished_in_the_grace_period_is_requeued(redis_url: str) -> None:
    queue = job_queue(redis_url)
    impatient = settings(redis_url, worker_shutdown_grace_s=0)
    with running_worker(impatient, FakeEngine(step_s=0.02)):
        job_id = queue.submit(request(steps=500))
        wait_for(lambda: is_running(queue, job_id))
    view = queue.view(job_id)
    assert (view.state, view.position) == (JobState.QUEUED, 0)
    assert client(redis_url).hget(f"rq:job:{job_id}", "crashes") is None


OUTAGES = {
    "killed": (RedisServer.kill, RedisServer.start),
    "hanging": (RedisServer.pause, RedisServer.resume),
}


@pytest.mark.parametrize("outage", sorted(OUTAGES))
def test_job_survives_outage_of_redis(outage: str) -> None:
    go, come_back = OUTAGES[outage]
    # Without it a write that was answered may wait for the disk, and be lost with the server.
    with RedisServer(appendfsync="always") as server:
        url = f"{server.url}?socket_timeout=0.2"
        queue = JobQueue(client(server.url), Settings(redis_url=server.url))
        gate = Event()

        def before_step(_: list[str]) -> None:
            gate.wait()

        engine = FakeEngine(before_step=before_step)
        # A lease longer than the outage, as the default is longer than an outage of seconds.
        with running_worker(settings(url, worker_lease_s=30.0), engine) as worker:
            first = queue.submit(request())
            wait_for(lambda: bool(worker.consumer.claims))
            go(server)
            gate.set()
            wait_for(lambda: engine.idle)  # finished, while Redis is away
            come_back(server)
            assert outcome(queue, first).state is JobState.FINISHED
            second = queue.submit(request())
            assert outcome(queue, second).state is JobState.FINISHED
        assert engine.admitted == [first, second]


def test_worker_without_redis_can_be_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unreachable = f"redis://127.0.0.1:{free_port()}/0"
    with running_worker(settings(unreachable)) as worker:
        wait_for(lambda: "cannot register" in caplog.text)
        assert not worker.consumer.stopping


@pytest.mark.parametrize(
    "lose",
    [
        lambda redis, key: redis.flushall(),
        lambda redis, key: redis.delete(key),
        lambda redis, key: redis.delete("rq:workers"),
        # Emptied, and a heartbeat since, after which the connection broke.
        lambda redis, key: redis.flushall() and redis.hset(key, "last_heartbeat", "x"),
    ],
)
def test_worker_registers_again_after_redis_lost_its_data(
    redis_url: str, lose: Callable[[Redis, str], object]
) -> None:
    redis = client(redis_url)
    with running_worker(settings(redis_url)) as worker:
        wait_for(lambda: redis.hget(worker.key, "state") == b"idle")
        lose(redis, worker.key)
        wait_for(lambda: redis.sismember("rq:workers", worker.key) == 1)
        wait_for(lambda: redis.hget(worker.key, "birth") is not None)
        queue = job_queue(redis_url)
        assert outcome(queue, queue.submit(request())).state is JobState.FINISHED


@pytest.mark.parametrize("priority", Priority)
@pytest.mark.parametrize("lose", ["flushall", "delete"])
def test_job_is_stopped_when_its_record_is_gone(
    redis_url: str, lose: str, priority: Priority
) -> None:
    redis, queue = client(redis_url), job_queue(redis_url)
    steps: list[list[str]] = []
    engine = FakeEngine(step_s=0.05, before_step=steps.append)
    with running_worker(settings(redis_url), engine) as worker:
        job_id = queue.submit(request(steps=1000, priority=priority))
        wait_for(lambda: engine.admitted == [job_id])
        if lose == "flushall":
            redis.flushall()
        else:  # as by a tool of RQ's
            redis.delete(f"rq:job:{job_id}")
        wait_for(lambda: engine.idle)
        assert len(steps) < 1000  # it was not generated to its end
        wait_for(lambda: not worker.consumer.claims)
        second = queue.submit(request())
        assert outcome(queue, second).state is JobState.FINISHED
    assert engine.admitted == [job_id, second]
    for name in ("leases:*", "wip:*", "execution*"):
        for key in redis.keys(f"*{name}"):
            assert redis.type(key) == b"none", key


class FlakyStore(ObjectStore):
    """A store that is away for the first `faults` writes."""

    def __init__(self, faults: int) -> None:
        super().__init__(MemoryStore())
        self.faults = faults

    def put(self, key: str, data: bytes, content_type: str) -> None:
        if self.faults > 0:
            self.faults -= 1
            raise StoreUnavailable
        super().put(key, data, content_type)


def test_job_survives_outage_of_the_store(redis_url: str) -> None:
    queue = job_queue(redis_url)
    store = FlakyStore(faults=2)
    with running_worker(settings(redis_url), store=store):
        view = outcome(queue, queue.submit(request()))
    assert view.state is JobState.FINISHED
    assert view.result is not None
    assert len(store.get(view.result.images[0].key)) > 0


def test_job_fails_if_the_store_stays_away(redis_url: str) -> None:
    queue = job_queue(redis_url)
    impatient = settings(redis_url, worker_store_patience_s=0)
    with running_worker(impatient, store=FlakyStore(faults=1)):
        failed = outcome(queue, queue.submit(request()))
        assert outcome(queue, queue.submit(request())).state is JobState.FINISHED
    assert failed.error is not None
    assert failed.error.kind == "StoreUnavailable"


def test_stock_worker_fails_the_job_with_a_clear_message(redis_url: str) -> None:
    queue = job_queue(redis_url)
    job_id = queue.submit(request())
    redis = client(redis_url)
    stock = SimpleWorker([f"darkroom-{MODEL}"], connection=redis, serializer="json")
    stock.work(burst=True, logging_level="CRITICAL")
    assert queue.view(job_id).state is JobState.FAILED
    record = Job.fetch(job_id, redis, serializer="json").latest_result()
    assert record is not None
    assert "darkroom worker" in (record.exc_string or "")

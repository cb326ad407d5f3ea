"""A worker of several models over a real queue: fakes only for the networks and the engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

import pytest
from redis import Redis

from protocol.queue.job import JobState, Phase
from protocol.queue.job_queue import JobQueue
from protocol.registry.presence import ModelState, Presence, WorkerReport, WorkerState
from protocol.storage.object_store import ObjectStore
from tests.worker.consumer.harness import client, job_queue, outcome, request, settings, wait_for
from tests.worker.fake_engine import FakeEngine
from worker.consumer.context import WorkerContext
from worker.consumer.rq_worker import RqWorker
from worker.engine.loaded_model import LoadedModel
from worker.interfaces import AdmittedJob
from worker.model_manager import model_manager as shelves
from worker.model_manager.eviction_policy import EvictionPolicy, ModelEntry
from worker.model_manager.load_requests import LOOK_S, LoadRequests
from worker.model_manager.loader import Loader, Report
from worker.model_manager.model_manager import ModelManager
from worker.periodic_runner import PeriodicRunner, PeriodicTask
from worker.telemetry.heartbeat import Heartbeat
from worker.telemetry.metrics import Metrics

NAME = "worker-under-test"


class Holding(FakeEngine):
    """A fake engine that knows which models it was given."""

    def __init__(self, step_s: float = 0.0) -> None:
        super().__init__(step_s=step_s)
        self.models: set[str] = set()
        self.came_and_went: list[str] = []

    def put(self, name: str, resident: LoadedModel) -> None:
        self.models.add(name)
        self.came_and_went.append(f"+{name}")

    def remove(self, name: str) -> None:
        self.models.remove(name)
        self.came_and_went.append(f"-{name}")
        assert name not in [drawn.job.request.model for drawn in self._drawn.values()]

    def admit(self, job: AdmittedJob) -> None:
        assert job.request.model in self.models
        super().admit(job)


@dataclass
class Disk:
    """Where models come from: `slow` ones wait to be let through, those in `broken` do not come.

    All take some `seconds`.
    """

    broken: dict[str, str] = field(default_factory=dict)
    slow: dict[str, threading.Event] = field(default_factory=dict)
    seconds: float = 0.0
    tried: list[str] = field(default_factory=list)

    def load(self, name: str, report: Report) -> LoadedModel:
        self.tried.append(name)
        report(0.5, "half of it")
        time.sleep(self.seconds)
        if name in self.slow:
            assert self.slow[name].wait(20)
        if name in self.broken:
            raise ValueError(self.broken[name])
        return RESIDENT


RESIDENT = LoadedModel(None, None)  # type: ignore[arg-type]  # nobody here looks inside


@dataclass
class Serving:
    worker: RqWorker
    engine: Holding
    shelf: ModelManager
    metrics: Metrics


Serve = Callable[..., Serving]


@contextmanager
def serving(
    redis: Redis,
    lodgers: Mapping[str, ModelEntry],
    disk: Disk,
    budget: float = inf,
    broken: Mapping[str, str] | None = None,
    step_s: float = 0.0,
    name: str = NAME,
    patience_s: float = 0.2,
) -> Iterator[Serving]:
    """A worker with everything real but the engine and the loading, until the block ends."""
    terms = settings(
        "redis://unused", worker_model_patience_s=patience_s, worker_store_patience_s=5.0
    )
    engine, metrics = Holding(step_s), Metrics()
    shelf = ModelManager(
        engine,
        Loader(disk.load),
        EvictionPolicy(lodgers, budget, patience_s),
        broken or {},
        metrics,
    )
    shelf.load_first(lambda model, share, what: None)
    store = ObjectStore.open("memory:///")
    context = WorkerContext.open(terms, redis, shelf, engine, metrics, store=store)
    worker = RqWorker(redis, name, context)
    announcer = Heartbeat(Presence(redis), name)
    announcer.serve(busy=lambda: False)
    demand = LoadRequests(shelf, worker.source, redis, announcer, name, terms, metrics)
    thread = threading.Thread(target=worker.work)
    with PeriodicRunner(PeriodicTask(LOOK_S / 5, demand.look)):
        thread.start()
        try:
            yield Serving(worker, engine, shelf, metrics)
        finally:
            worker.consumer.stop()
            thread.join(20)
            context.output.close()
            shelf.close()
            announcer.leave()
            assert not thread.is_alive()


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return client(redis_url)


@pytest.fixture
def queue(redis_url: str) -> JobQueue:
    return job_queue(redis_url)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that a test need not wait out."""
    monkeypatch.setattr(shelves, "PAUSE_S", 0.01)


def state_of(redis: Redis, model: str) -> ModelState | None:
    for report in Presence(redis).workers():
        for told in report.models:
            if (report.name, told.name) == (NAME, model):
                return told.state
    return None


def test_jobs_of_two_models_are_drawn_by_one_worker(redis: Redis, queue: JobQueue) -> None:
    lodgers = {"one": ModelEntry(1, stays=True), "two": ModelEntry(1, stays=True)}
    ids = [queue.submit(request(model=name)) for name in ("one", "two") * 3]
    with serving(redis, lodgers, Disk()) as served:
        assert {outcome(queue, job_id).state for job_id in ids} == {JobState.FINISHED}
        assert served.engine.models == {"one", "two"}
        assert served.metrics.registry.get_sample_value("darkroom_worker_models") == 2


def test_their_turns_alternate(redis: Redis, queue: JobQueue) -> None:
    lodgers = {"one": ModelEntry(1, stays=True), "two": ModelEntry(1, stays=True)}
    first = [queue.submit(request(model="one")) for _ in range(4)]
    second = [queue.submit(request(model="two")) for _ in range(2)]
    with serving(redis, lodgers, Disk()) as served:
        wait_for(lambda: len(served.engine.models) == 2)
        for job_id in (*first, *second):
            outcome(queue, job_id)
        drawn = served.engine.admitted
    # Whenever both were there to be taken, neither was taken twice running.
    both = drawn[drawn.index(second[0]) :]
    assert both[: both.index(second[1]) + 1].count(second[0]) == 1
    assert both.index(second[1]) <= 2


def test_a_model_is_loaded_when_a_job_comes_for_it_while_another_is_drawn(
    redis: Redis, queue: JobQueue
) -> None:
    lodgers = {"kept": ModelEntry(1, stays=True), "asked": ModelEntry(1)}
    disk = Disk(slow={"asked": threading.Event()})
    with serving(redis, lodgers, disk) as served:
        wait_for(lambda: state_of(redis, "asked") is ModelState.ON_DEMAND)
        waits = queue.submit(request(model="asked"))
        wait_for(lambda: queue.view(waits).progress is not None)
        told = queue.view(waits)
        assert told.state is JobState.QUEUED
        assert told.progress is not None
        assert (told.progress.phase, told.progress.step) == (Phase.LOAD, 50)
        assert state_of(redis, "asked") is ModelState.LOADING
        meanwhile = queue.submit(request(model="kept"))
        assert outcome(queue, meanwhile).state is JobState.FINISHED
        assert served.engine.models == {"kept"}
        disk.slow["asked"].set()
        assert outcome(queue, waits).state is JobState.FINISHED
        wait_for(lambda: state_of(redis, "asked") is ModelState.READY)
        assert disk.tried == ["kept", "asked"]


def test_two_busy_models_that_do_not_fit_together_take_turns(redis: Redis, queue: JobQueue) -> None:
    lodgers = {"one": ModelEntry(2), "two": ModelEntry(2)}
    ids = [queue.submit(request(model="one", steps=4)) for _ in range(30)]
    # The other is seen to wait while one is loaded: it must not have it out again at once.
    with serving(redis, lodgers, Disk(seconds=0.2), budget=3, step_s=0.02) as served:
        wait_for(lambda: served.engine.models == {"one"})
        other = queue.submit(request(model="two"))
        assert outcome(queue, other).state is JobState.FINISHED
        waited = queue.depth("one")
        assert {outcome(queue, job_id).state for job_id in ids} == {JobState.FINISHED}
        assert waited > 0  # it did not have to wait for all of them
        assert served.engine.came_and_went[:4] == ["+one", "-one", "+two", "-two"]


def test_a_model_that_nobody_asks_for_is_let_go_of(redis: Redis, queue: JobQueue) -> None:
    lodgers = {"kept": ModelEntry(1, stays=True), "brief": ModelEntry(1, idle_s=0.3)}
    with serving(redis, lodgers, Disk()) as served:
        job_id = queue.submit(request(model="brief"))
        assert outcome(queue, job_id).state is JobState.FINISHED
        wait_for(lambda: served.engine.models == {"kept"})
        again = queue.submit(request(model="brief"))
        assert outcome(queue, again).state is JobState.FINISHED
        assert served.metrics.registry.get_sample_value("darkroom_worker_model_evictions_total")


def test_a_broken_model_fails_its_jobs_with_the_reason_and_hurts_nobody(
    redis: Redis, queue: JobQueue
) -> None:
    lodgers = {
        "good": ModelEntry(1, stays=True),
        "bad": ModelEntry(1, stays=True),
        "huge": ModelEntry(99),
    }
    disk = Disk(broken={"bad": "its header is cut off"})
    never = {"gone": "there is no such folder"}
    with serving(redis, lodgers, disk, budget=9, broken=never) as served:
        reasons = {
            "bad": "its header is cut off", "gone": "no such folder", "huge": "memory_budget",
        }  # fmt: skip
        for name, reason in reasons.items():
            view = outcome(queue, queue.submit(request(model=name)))
            assert view.state is JobState.FAILED
            assert view.error is not None
            assert reason in str(view.error)
            assert state_of(redis, name) is ModelState.FAILED
        assert outcome(queue, queue.submit(request(model="good"))).state is JobState.FINISHED
        assert served.engine.models == {"good"}
        assert disk.tried.count("bad") == shelves.TRIES
        assert "huge" not in disk.tried


def test_a_broken_model_is_left_to_a_worker_that_may_have_it(redis: Redis, queue: JobQueue) -> None:
    other = WorkerReport.model_validate(
        {
            "name": "another", "state": "ready",
            "models": [{"name": "bad", "state": "on_demand"}],
        }
    )  # fmt: skip
    Presence(redis).report(other)
    disk = Disk(broken={"bad": "this disk is full"})
    with serving(redis, {"good": ModelEntry(1, stays=True), "bad": ModelEntry(1)}, disk):
        waits = queue.submit(request(model="bad"))
        wait_for(lambda: state_of(redis, "bad") is ModelState.FAILED)
        time.sleep(3 * LOOK_S)
        assert queue.view(waits).state is JobState.QUEUED
        Presence(redis).leave("another")
        assert outcome(queue, waits).state is JobState.FAILED


def test_a_model_that_another_worker_has_is_loaded_only_when_that_is_not_enough(
    redis: Redis, queue: JobQueue
) -> None:
    told = {"name": "asked", "state": "ready"}
    other = {"name": "another", "state": WorkerState.READY, "models": [told]}
    Presence(redis).report(WorkerReport.model_validate(other))
    lodgers, disk = {"kept": ModelEntry(1, stays=True), "asked": ModelEntry(1)}, Disk()
    with serving(redis, lodgers, disk, patience_s=1.0):
        waits = queue.submit(request(model="asked"))
        time.sleep(0.5)
        assert disk.tried == ["kept"]
        assert queue.view(waits).state is JobState.QUEUED
        assert outcome(queue, waits).state is JobState.FINISHED
        assert disk.tried == ["kept", "asked"]


def test_two_workers_do_not_load_it_at_once(redis_url: str, queue: JobQueue) -> None:
    first, second = Disk(), Disk()
    lodgers = {"asked": ModelEntry(1)}
    with (
        serving(client(redis_url), lodgers, first, name="first", patience_s=60),
        serving(client(redis_url), lodgers, second, name="second", patience_s=60),
    ):
        ids = [queue.submit(request(model="asked")) for _ in range(5)]
        assert {outcome(queue, job_id).state for job_id in ids} == {JobState.FINISHED}
        assert first.tried + second.tried == ["asked"]


def test_a_refiner_is_there_before_jobs_of_its_base_are_taken(
    redis: Redis, queue: JobQueue
) -> None:
    lodgers = {"base": ModelEntry(1, stays=True, needs=("refiner",)), "refiner": ModelEntry(1)}
    disk = Disk()
    with serving(redis, lodgers, disk) as served:
        assert disk.tried == ["refiner", "base"]  # before the worker says that it is ready
        assert outcome(queue, queue.submit(request(model="base"))).state is JobState.FINISHED
        assert disk.tried == ["refiner", "base"]
        assert served.engine.models == {"base", "refiner"}


def test_nothing_to_serve_is_told(redis: Redis) -> None:
    disk = Disk(broken={"bad": "its header is cut off"})
    with (
        pytest.raises(ValueError, match="cut off"),
        serving(redis, {"bad": ModelEntry(1, stays=True)}, disk),
    ):
        pass
    with (
        pytest.raises(RuntimeError, match="gone: no such folder"),
        serving(redis, {}, Disk(), broken={"gone": "no such folder"}),
    ):
        pass

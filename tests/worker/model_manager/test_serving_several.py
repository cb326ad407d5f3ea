"""A worker with several models on a real queue; only the networks and the engine are fakes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

import pytest
from redis import Redis

from protocol.queue.job import JobState, Phase
from protocol.queue.job_queue import JobQueue
from protocol.registry.model_commands import Action, ModelCommands
from protocol.registry.presence import ModelReport, ModelState, Presence, WorkerReport, WorkerState
from protocol.storage.object_store import ObjectStore
from tests.worker.consumer.harness import client, job_queue, outcome, request, settings, wait_for
from tests.worker.fake_engine import FakeEngine
from worker.consumer.context import WorkerContext
from worker.consumer.rq_worker import RqJobSource, RqWorker
from worker.engine.loaded_model import LoadedModel
from worker.interfaces import AdmittedJob
from worker.model_manager import model_manager as managers
from worker.model_manager.eviction_policy import EvictionPolicy, ModelEntry
from worker.model_manager.load_requests import CHECK_EVERY_S, LoadRequests
from worker.model_manager.model_manager import ModelManager, ProgressCallback
from worker.periodic_runner import PeriodicRunner, PeriodicTask
from worker.telemetry.heartbeat import Heartbeat
from worker.telemetry.metrics import Metrics

NAME = "worker-under-test"


class HoldingEngine(FakeEngine):
    """A fake engine that records the models it is given."""

    def __init__(self, step_s: float = 0.0) -> None:
        super().__init__(step_s=step_s)
        self.models: set[str] = set()
        self.changes: list[str] = []

    def put(self, name: str, resident: LoadedModel) -> None:
        self.models.add(name)
        self.changes.append(f"+{name}")

    def remove(self, name: str) -> None:
        self.models.remove(name)
        self.changes.append(f"-{name}")
        assert name not in [running.job.request.model for running in self._runs.values()]

    def admit(self, job: AdmittedJob) -> None:
        assert job.request.model in self.models
        super().admit(job)


@dataclass
class Disk:
    """A source of models: `slow` ones wait for their event, `broken` ones raise their message.

    Each load takes `seconds`.
    """

    broken: dict[str, str] = field(default_factory=dict)
    slow: dict[str, threading.Event] = field(default_factory=dict)
    seconds: float = 0.0
    loads: list[str] = field(default_factory=list)
    loaded_at: list[float] = field(default_factory=list)

    def load(self, name: str, report: ProgressCallback) -> LoadedModel:
        self.loads.append(name)
        self.loaded_at.append(time.monotonic())
        report(0.5, "half of it")
        time.sleep(self.seconds)
        if name in self.slow:
            assert self.slow[name].wait(20)
        if name in self.broken:
            raise ValueError(self.broken[name])
        return RESIDENT


RESIDENT = LoadedModel(None, None)  # type: ignore[arg-type]  # never read here


@dataclass
class Serving:
    worker: RqWorker
    engine: HoldingEngine
    manager: ModelManager
    metrics: Metrics


@contextmanager
def serving(
    redis: Redis,
    entries: Mapping[str, ModelEntry],
    disk: Disk,
    budget: float = inf,
    broken: Mapping[str, str] | None = None,
    step_s: float = 0.0,
    name: str = NAME,
    patience_s: float = 0.2,
) -> Iterator[Serving]:
    """Run a worker, real except for the engine and the loading, until the block ends."""
    terms = settings(
        "redis://unused", worker_model_patience_s=patience_s, worker_store_patience_s=5.0
    )
    engine, metrics = HoldingEngine(step_s), Metrics()
    manager = ModelManager(
        engine,
        disk.load,
        EvictionPolicy(entries, budget, patience_s),
        broken or {},
        metrics,
    )
    manager.load_first(lambda name, share, part: None)
    store = ObjectStore.open("memory:///")
    context = WorkerContext.open(terms, redis, manager, engine, metrics, store=store)
    worker = RqWorker(redis, name, context)
    heartbeat = Heartbeat(Presence(redis), name)
    heartbeat.mark_ready(busy=lambda: False)
    requests = LoadRequests(manager, worker.source, redis, heartbeat, metrics, patience_s)
    thread = threading.Thread(target=worker.work)
    with PeriodicRunner(PeriodicTask(CHECK_EVERY_S / 5, requests.check)):
        thread.start()
        try:
            yield Serving(worker, engine, manager, metrics)
        finally:
            worker.consumer.stop()
            thread.join(20)
            context.output.close()
            manager.close()
            heartbeat.leave()
            assert not thread.is_alive()


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return client(redis_url)


@pytest.fixture
def queue(redis_url: str) -> JobQueue:
    return job_queue(redis_url)


@pytest.fixture(autouse=True)
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause before a load is tried again."""
    monkeypatch.setattr(managers, "RETRY_S", 0.01)


def state_of(redis: Redis, model: str) -> ModelState | None:
    for report in Presence(redis).workers():
        for model_report in report.models:
            if (report.name, model_report.name) == (NAME, model):
                return model_report.state
    return None


def test_one_worker_serves_jobs_of_two_models(redis: Redis, queue: JobQueue) -> None:
    entries = {"one": ModelEntry(1, resident=True), "two": ModelEntry(1, resident=True)}
    ids = [queue.submit(request(model=name)) for name in ("one", "two") * 3]
    with serving(redis, entries, Disk()) as served:
        assert {outcome(queue, job_id).state for job_id in ids} == {JobState.FINISHED}
        assert served.engine.models == {"one", "two"}
        assert served.metrics.registry.get_sample_value("darkroom_worker_models") == 2


def test_jobs_of_two_models_alternate(redis: Redis, queue: JobQueue) -> None:
    entries = {"one": ModelEntry(1, resident=True), "two": ModelEntry(1, resident=True)}
    first = [queue.submit(request(model="one")) for _ in range(4)]
    second = [queue.submit(request(model="two")) for _ in range(2)]
    with serving(redis, entries, Disk()) as served:
        wait_for(lambda: len(served.engine.models) == 2)
        for job_id in (*first, *second):
            outcome(queue, job_id)
        claimed = served.engine.admitted
    # While both waited, neither was claimed twice in a row.
    both = claimed[claimed.index(second[0]) :]
    assert both[: both.index(second[1]) + 1].count(second[0]) == 1
    assert both.index(second[1]) <= 2


def test_model_is_loaded_on_demand_while_another_runs(redis: Redis, queue: JobQueue) -> None:
    entries = {"kept": ModelEntry(1, resident=True), "asked": ModelEntry(1)}
    disk = Disk(slow={"asked": threading.Event()})
    with serving(redis, entries, disk) as served:
        wait_for(lambda: state_of(redis, "asked") is ModelState.ON_DEMAND)
        waits = queue.submit(request(model="asked"))
        wait_for(lambda: queue.view(waits).progress is not None)
        view = queue.view(waits)
        assert view.state is JobState.QUEUED
        assert view.progress is not None
        assert (view.progress.phase, view.progress.step) == (Phase.LOAD, 50)
        assert state_of(redis, "asked") is ModelState.LOADING
        meanwhile = queue.submit(request(model="kept"))
        assert outcome(queue, meanwhile).state is JobState.FINISHED
        assert served.engine.models == {"kept"}
        disk.slow["asked"].set()
        assert outcome(queue, waits).state is JobState.FINISHED
        wait_for(lambda: state_of(redis, "asked") is ModelState.READY)
        assert disk.loads == ["kept", "asked"]


def test_two_busy_models_that_do_not_fit_together_alternate(redis: Redis, queue: JobQueue) -> None:
    entries = {"one": ModelEntry(2), "two": ModelEntry(2)}
    ids = [queue.submit(request(model="one", steps=4)) for _ in range(30)]
    # The jobs of "two" wait while "one" is loaded, but must not evict it at once.
    with serving(redis, entries, Disk(seconds=0.2), budget=3, step_s=0.02) as served:
        wait_for(lambda: served.engine.models == {"one"})
        other = queue.submit(request(model="two"))
        assert outcome(queue, other).state is JobState.FINISHED
        waited = queue.depth("one")
        assert {outcome(queue, job_id).state for job_id in ids} == {JobState.FINISHED}
        assert waited > 0  # the other job did not wait for all of these
        assert served.engine.changes[:4] == ["+one", "-one", "+two", "-two"]


def test_model_without_jobs_is_evicted(redis: Redis, queue: JobQueue) -> None:
    entries = {"kept": ModelEntry(1, resident=True), "brief": ModelEntry(1, idle_unload_s=0.3)}
    with serving(redis, entries, Disk()) as served:
        job_id = queue.submit(request(model="brief"))
        assert outcome(queue, job_id).state is JobState.FINISHED
        wait_for(lambda: served.engine.models == {"kept"})
        again = queue.submit(request(model="brief"))
        assert outcome(queue, again).state is JobState.FINISHED
        assert served.metrics.registry.get_sample_value("darkroom_worker_model_evictions_total")


def test_broken_model_fails_only_its_own_jobs_with_the_reason(
    redis: Redis, queue: JobQueue
) -> None:
    entries = {
        "good": ModelEntry(1, resident=True),
        "bad": ModelEntry(1, resident=True),
        "huge": ModelEntry(99),
    }
    disk = Disk(broken={"bad": "its header is cut off"})
    broken = {"gone": "there is no such folder"}
    with serving(redis, entries, disk, budget=9, broken=broken) as served:
        reasons = {
            "bad": "its header is cut off", "gone": "no such folder", "huge": "memory_budget",
        }  # fmt: skip
        for name, reason in reasons.items():
            view = outcome(queue, queue.submit(request(model=name)))
            assert view.state is JobState.FAILED
            assert view.error is not None
            assert reason in str(view.error)
        # The worker's report follows the end of the jobs.
        wait_for(lambda: {state_of(redis, name) for name in reasons} == {ModelState.FAILED})
        assert outcome(queue, queue.submit(request(model="good"))).state is JobState.FINISHED
        assert served.engine.models == {"good"}
        assert disk.loads.count("bad") == managers.MAX_ATTEMPTS
        assert "huge" not in disk.loads


def test_jobs_of_a_broken_model_wait_while_another_worker_may_load_it(
    redis: Redis, queue: JobQueue
) -> None:
    other = WorkerReport.model_validate(
        {
            "name": "another", "state": "ready",
            "models": [{"name": "bad", "state": "on_demand"}],
        }
    )  # fmt: skip
    Presence(redis).report(other)
    disk = Disk(broken={"bad": "this disk is full"})
    with serving(redis, {"good": ModelEntry(1, resident=True), "bad": ModelEntry(1)}, disk):
        waits = queue.submit(request(model="bad"))
        wait_for(lambda: state_of(redis, "bad") is ModelState.FAILED)
        time.sleep(3 * CHECK_EVERY_S)
        assert queue.view(waits).state is JobState.QUEUED
        Presence(redis).leave("another")
        assert outcome(queue, waits).state is JobState.FAILED


def test_model_of_another_worker_is_loaded_only_after_the_patience(
    redis: Redis, queue: JobQueue
) -> None:
    model = {"name": "asked", "state": "ready"}
    other = {"name": "another", "state": WorkerState.READY, "models": [model]}
    Presence(redis).report(WorkerReport.model_validate(other))
    entries, disk = {"kept": ModelEntry(1, resident=True), "asked": ModelEntry(1)}, Disk()
    patience_s = 1.0
    with serving(redis, entries, disk, patience_s=patience_s):
        submitted_at = time.monotonic()
        waits = queue.submit(request(model="asked"))
        state = (list(disk.loads), queue.view(waits).state)
        if time.monotonic() < submitted_at + patience_s:  # else the machine was too slow
            assert state == (["kept"], JobState.QUEUED)
        assert outcome(queue, waits).state is JobState.FINISHED
        assert disk.loads == ["kept", "asked"]
        assert disk.loaded_at[-1] >= submitted_at + 0.9 * patience_s  # measured with two clocks


def test_two_workers_do_not_load_the_same_model_at_once(redis_url: str, queue: JobQueue) -> None:
    first, second = Disk(), Disk()
    entries = {"asked": ModelEntry(1)}
    with (
        serving(client(redis_url), entries, first, name="first", patience_s=60),
        serving(client(redis_url), entries, second, name="second", patience_s=60),
    ):
        ids = [queue.submit(request(model="asked")) for _ in range(5)]
        assert {outcome(queue, job_id).state for job_id in ids} == {JobState.FINISHED}
        assert first.loads + second.loads == ["asked"]


def test_model_that_is_added_while_jobs_run_is_served(redis: Redis, queue: JobQueue) -> None:
    entries = {"kept": ModelEntry(1, resident=True)}
    dead = RqJobSource(redis, "dead", ["later"], settings("redis://unused"))
    before = queue.submit(request(model="later"))
    assert dead.claim(idle=True, models=["later"]) is not None
    with serving(redis, entries, Disk(), budget=3) as served:
        assert outcome(queue, queue.submit(request(model="kept"))).state is JobState.FINISHED
        served.manager.add("later", ModelEntry(1))
        served.manager.add("damaged", "its header is cut off")
        served.manager.add("huge", ModelEntry(9))
        assert outcome(queue, before).state is JobState.FINISHED  # requeued by this worker
        for name, reason in {"damaged": "cut off", "huge": "memory_budget"}.items():
            view = outcome(queue, queue.submit(request(model=name)))
            assert (view.state, reason in str(view.error)) == (JobState.FAILED, True)
        wait_for(lambda: b"later" in (redis.hget(served.worker.key, "queues") or b""))


def test_refiner_is_loaded_before_jobs_of_its_base_are_claimed(
    redis: Redis, queue: JobQueue
) -> None:
    entries = {"base": ModelEntry(1, resident=True, needs=("refiner",)), "refiner": ModelEntry(1)}
    disk = Disk()
    with serving(redis, entries, disk) as served:
        assert disk.loads == ["refiner", "base"]  # before the worker is ready
        assert outcome(queue, queue.submit(request(model="base"))).state is JobState.FINISHED
        assert disk.loads == ["refiner", "base"]
        assert served.engine.models == {"base", "refiner"}


def test_worker_without_a_usable_model_raises_the_reason(redis: Redis) -> None:
    disk = Disk(broken={"bad": "its header is cut off"})
    with (
        pytest.raises(ValueError, match="cut off"),
        serving(redis, {"bad": ModelEntry(1, resident=True)}, disk),
    ):
        pass
    with (
        pytest.raises(RuntimeError, match="gone: no such folder"),
        serving(redis, {}, Disk(), broken={"gone": "no such folder"}),
    ):
        pass


def test_operator_unloads_and_loads_a_model(redis: Redis, queue: JobQueue) -> None:
    entries = {"kept": ModelEntry(1, resident=True), "other": ModelEntry(1)}
    commands = ModelCommands(redis)
    commands.give("kept", Action.UNLOAD)  # before the start: for workers of that time
    with serving(redis, entries, Disk()) as served:
        wait_for(lambda: state_of(redis, "other") is ModelState.ON_DEMAND)
        assert served.engine.models == {"kept"}
        commands.give("other", Action.LOAD)
        wait_for(lambda: served.engine.models == {"kept", "other"})
        commands.give("kept", Action.UNLOAD)
        commands.give("other", Action.UNLOAD)
        wait_for(lambda: served.engine.models == set())
        wait_for(lambda: state_of(redis, "kept") is ModelState.ON_DEMAND)
        job = queue.submit(request(model="kept"))  # which loads its model again
        assert outcome(queue, job).state is JobState.FINISHED
        assert served.engine.models == {"kept"}
        commands.give("unknown", Action.LOAD)
        commands.give("other", Action.LOAD)
        wait_for(lambda: served.engine.models == {"kept", "other"})


class PromptOperator(Heartbeat):
    """A heartbeat whose operator commands as soon as the first report of the models is there."""

    def __init__(self, presence: Presence, commands: ModelCommands) -> None:
        super().__init__(presence, NAME)
        self.commands = commands

    def update_models(self, models: tuple[ModelReport, ...]) -> None:
        super().update_models(models)
        if not self.commands.all():
            self.commands.give("other", Action.LOAD)


def test_command_is_obeyed_by_a_worker_whose_models_were_just_reported(redis: Redis) -> None:
    entries = {"kept": ModelEntry(1, resident=True), "other": ModelEntry(1)}
    engine, metrics, disk = HoldingEngine(), Metrics(), Disk()
    manager = ModelManager(engine, disk.load, EvictionPolicy(entries, inf, 0.2), {}, metrics)
    manager.load_first(lambda name, share, part: None)
    heartbeat = PromptOperator(Presence(redis), ModelCommands(redis))
    queue = RqJobSource(redis, NAME, [*entries], settings("redis://unused"))
    requests = LoadRequests(manager, queue, redis, heartbeat, metrics, 0.2)

    def has_loaded() -> bool:
        requests.check()
        manager.update(())
        return engine.models == {"kept", "other"}

    wait_for(has_loaded)
    manager.close()


def test_model_with_running_jobs_is_unloaded_after_them(redis: Redis, queue: JobQueue) -> None:
    entries = {"one": ModelEntry(1, resident=True)}
    with serving(redis, entries, Disk(), step_s=0.05) as served:
        wait_for(lambda: state_of(redis, "one") is ModelState.READY)
        job = queue.submit(request(model="one", steps=20))
        wait_for(lambda: queue.view(job).state is JobState.RUNNING)
        ModelCommands(redis).give("one", Action.UNLOAD)
        assert outcome(queue, job).state is JobState.FINISHED
        wait_for(lambda: served.engine.models == set())


def test_one_of_two_workers_loads_for_an_operator(redis_url: str, redis: Redis) -> None:
    entries, disk = {"kept": ModelEntry(1, resident=True), "asked": ModelEntry(1)}, Disk()
    with (
        serving(client(redis_url), entries, disk, name="a") as first,
        serving(client(redis_url), entries, disk, name="b") as second,
    ):
        wait_for(lambda: len(Presence(redis).workers()) == 2)
        wait_for(lambda: all(report.models for report in Presence(redis).workers()))
        ModelCommands(redis).give("asked", Action.LOAD)
        wait_for(lambda: "asked" in first.engine.models | second.engine.models)
        assert disk.loads.count("asked") == 1

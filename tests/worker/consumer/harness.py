"""Workers for tests, real except for the engine, in a thread or in a child process."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from protocol.connection.redis_client import ANSWER_TIMEOUT_S, connect
from protocol.queue.job import TERMINAL, JobView
from protocol.queue.job_queue import JobQueue
from protocol.request.request import GenerationRequest
from protocol.settings import Settings
from protocol.storage.object_store import ObjectStore
from tests.support.forked_program import ForkedProgram
from tests.worker.fake_engine import FakeEngine
from worker.consumer.context import WorkerContext
from worker.consumer.rq_worker import RqWorker
from worker.interfaces import Engine, OneModel
from worker.output.output_processor import OutputProcessor
from worker.settings import WorkerSettings
from worker.telemetry.metrics import Metrics

MODEL = "fake"
PATIENCE_S = 60.0  # how long a test waits for an event; no test measures it

REQUEST = GenerationRequest.model_validate(
    {
        "task": "txt2img",
        "model": MODEL,
        "prompt": "a red heart",
        "negative_prompt": "",
        "width": 16,
        "height": 16,
        "steps": 3,
        "sampler": "ddim",
        "schedule": "leading",
        "guidance_scale": 7.5,
        "seed": 42,
        "n": 1,
        "output_format": "png",
        "quality": 90,
    }
)


def request(**changes: Any) -> GenerationRequest:
    return GenerationRequest.model_validate({**REQUEST.model_dump(), **changes})


def settings(redis_url: str, **changes: Any) -> WorkerSettings:
    """Return settings with short leases, so that tests of recovery are quick."""
    quick = {
        "redis_url": redis_url,
        "worker_lease_s": 0.9,
        "worker_heartbeat_s": 0.2,
        "worker_reap_s": 0.1,
        "worker_cancel_poll_s": 0.05,
        "worker_progress_s": 0.02,
        "worker_shutdown_grace_s": 10.0,
        "worker_delivery_threads": 2,
    }
    return WorkerSettings(**{**quick, **changes})


_clients: list[Redis] = []


def client(redis_url: str, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> Redis:
    """Return a client that is closed after the test."""
    _clients.append(connect(redis_url, answer_timeout_s=answer_timeout_s))
    return _clients[-1]


def close_clients() -> None:
    while _clients:
        _clients.pop().close()


def job_queue(redis_url: str, **changes: Any) -> JobQueue:
    return JobQueue(client(redis_url), Settings(redis_url=redis_url, **changes))


def make_worker(
    settings: WorkerSettings, engine: Engine, store: ObjectStore, metrics: Metrics
) -> tuple[RqWorker, OutputProcessor]:
    redis = client(settings.redis_url, answer_timeout_s=settings.worker_heartbeat_s)
    context = WorkerContext.open(settings, redis, OneModel(MODEL), engine, metrics, store=store)
    return RqWorker(redis, f"test-{uuid.uuid4().hex}", context), context.output


@contextmanager
def running_worker(
    settings: WorkerSettings,
    engine: Engine | None = None,
    store: ObjectStore | None = None,
    metrics: Metrics | None = None,
) -> Iterator[RqWorker]:
    """Run a worker in a thread of this process, and stop it in order at the end."""
    worker, output = make_worker(
        settings,
        engine or FakeEngine(),
        store or ObjectStore.open("memory:///"),
        metrics or Metrics(),
    )
    thread = threading.Thread(target=worker.work, name="worker")
    thread.start()
    try:
        yield worker
    finally:
        worker.consumer.stop()
        thread.join(PATIENCE_S)
        output.close()
        assert not thread.is_alive()


class ChildWorker:
    """A worker in a process of its own, to be killed."""

    def __init__(
        self, redis_url: str, store: Path, step_s: float, shift_s: float, **environment: str
    ) -> None:
        module = "tests.worker.consumer.child_worker"
        environment = {
            **os.environ,
            "REDIS_URL": redis_url,
            "OBJECT_STORE_URL": store.as_uri(),
            **environment,
        }
        self.process: ForkedProgram | subprocess.Popen[bytes]
        if shift_s:
            shifted = ["tests.support.shifted_clock", str(shift_s)]
            self.process = subprocess.Popen(
                [sys.executable, "-m", *shifted, module, str(step_s)],
                env=environment,
                stderr=subprocess.DEVNULL,
            )
        else:
            self.process = ForkedProgram(module, str(step_s), environment=environment)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def child_worker(
    redis_url: str, store: Path, step_s: float = 0.02, shift_s: float = 0.0, **environment: str
) -> Iterator[ChildWorker]:
    """Run a worker in a process whose clock is `shift_s` seconds off."""
    child = ChildWorker(redis_url, store, step_s, shift_s, **environment)
    try:
        yield child
    finally:
        child.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; fail the test if it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def outcome(queue: JobQueue, job_id: str) -> JobView:
    """Wait until the job has ended, and return it."""
    wait_for(lambda: queue.view(job_id).state in TERMINAL)
    return queue.view(job_id)

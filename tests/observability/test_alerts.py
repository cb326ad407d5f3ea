"""Test that every alert fires after its fault, with real programs and a real Prometheus."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import redis

from protocol.queue.job_queue import JobQueue
from protocol.settings import Settings
from tests.cli.processes import wait_until
from tests.observability.alert_model import CARD
from tests.observability.programs import FAKE_WORKER, WORKER, ObservedStack, Program, observed_stack
from tests.observability.prometheus import MISSING, PROMETHEUS, Prometheus
from tests.observability.rules import alerts
from tests.worker.consumer.harness import request

pytestmark = pytest.mark.early

MAX_QUEUE_LENGTH = 30


class Watched:
    """A stack and its Prometheus, with the alerts that have fired."""

    def __init__(self, stack: ObservedStack, prometheus: Prometheus, client: redis.Redis) -> None:
        self.stack = stack
        self.prometheus = prometheus
        self.client = client
        self.seen: set[str] = set()

    def fires(self, *names: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.prometheus.wait_for(*names, meanwhile=meanwhile)
        self.seen |= set(names)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    limit = {"DARKROOM_MAX_QUEUE_LENGTH": str(MAX_QUEUE_LENGTH)}
    with (
        observed_stack(tmp_path, FAKE_WORKER, FAKE_WORKER, **limit) as stack,
        Prometheus(tmp_path, stack.targets) as prometheus,
        redis.Redis.from_url(stack.redis.url) as client,
    ):
        yield Watched(stack, prometheus, client)


@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
def test_every_alert_fires_after_its_fault(watched: Watched) -> None:
    for inject in (
        no_fault,
        minor_faults,
        failing_jobs,
        broken_store,
        hanging_worker,
        slow_redis,
        no_workers,
        no_redis,
        no_api,
    ):
        inject(watched)
    assert watched.seen == alerts().keys()


def no_fault(watched: Watched) -> None:
    """Scrape all programs and generate images; no alert fires."""
    with ThreadPoolExecutor(4) as pool:
        for response in pool.map(lambda _: watched.stack.generate(), range(20)):
            response.raise_for_status()
    wait_until(lambda: len(watched.prometheus.query("up == 1")) == 3, "all are scraped")
    wait_until(
        lambda: bool(watched.prometheus.query("sum(darkroom_worker_images_total) == 20")),
        "all images are counted",
    )
    # On a busy machine Prometheus may have scraped before the programs were ready.
    wait_until(lambda: watched.prometheus.firing() == set(), "nothing fires")


def minor_faults(watched: Watched) -> None:
    """Fill the GPU's and Redis' memory and suspend the API, without effect on any job."""
    stack = watched.stack
    (stack.folder / "gpu-is-full").touch()
    used = watched.client.info("memory")["used_memory"]
    watched.client.config_set("maxmemory", int(used * 1.15))
    watched.fires("DarkroomGpuMemory", "DarkroomRedisMemory")
    watched.client.config_set("maxmemory", 0)
    (stack.folder / "gpu-is-full").unlink()
    suspend(stack.api.send, 1.0)
    watched.fires("DarkroomEventLoopLag")


def failing_jobs(watched: Watched) -> None:
    """Submit a job that breaks the engine and jobs it refuses; start a worker without a model."""
    missing = str(watched.stack.folder / "missing model")
    failing = Program(
        WORKER,
        watched.stack.folder,
        REDIS_URL=watched.stack.redis.url,
        DARKROOM_MODEL=missing,
        DARKROOM_DEVICE="cpu",
    )
    failing.start()
    watched.stack.generate("break", wait=False).raise_for_status()
    for _ in range(5):
        assert watched.stack.generate("refuse").status_code == 500
    watched.fires("DarkroomEngineFails", "DarkroomJobsFail", "DarkroomWorkerSetupFailed")
    failing.end(signal.SIGTERM)


def broken_store(watched: Watched) -> None:
    """Replace the store's folder by a file; delivery is retried until the folder is back."""
    store = watched.stack.store
    store.rename(store.with_name("aside"))
    store.touch()
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(watched.stack.generate)
        watched.fires("DarkroomStoreErrors")
        store.unlink()
        store.with_name("aside").rename(store)
        response.result().raise_for_status()


def hanging_worker(watched: Watched) -> None:
    """Kill the worker that hangs three times; the other worker takes its job over."""
    watched.stack.generate("hang", wait=False).raise_for_status()
    watched.fires("DarkroomWorkerStuck")
    # The alert of the other worker may be pending, if it had a job at the last scrape.
    [hanging] = watched.prometheus.query('ALERTS{alertname="DarkroomWorkerStuck"} == 1')
    instance = hanging["metric"]["instance"]
    [worker] = [one for one in watched.stack.workers if one.address == instance]
    started = f'changes(process_start_time_seconds{{instance="{instance}"}}[15m])'
    for times in (1, 2, 3):
        worker.restart()
        watched.prometheus.wait_until(f"{started} >= {times}")
    watched.fires("DarkroomWorkerDied", "DarkroomWorkerRestarts")


def slow_redis(watched: Watched) -> None:
    """Suspend Redis during requests until the alerts fire."""
    job = watched.stack.generate(wait=False).json()["id"]

    def pause() -> None:
        with ThreadPoolExecutor(1) as pool:
            watched.stack.redis.pause()
            response = pool.submit(watched.stack.client.get, f"/v1/jobs/{job}")
            time.sleep(1.5)
            watched.stack.redis.resume()
            response.result().raise_for_status()

    watched.fires("DarkroomRedisSlow", "DarkroomApiSlow", meanwhile=pause)


def no_workers(watched: Watched) -> None:
    """Stop the workers and submit jobs until the queue is full."""
    for worker in watched.stack.workers:
        worker.end(signal.SIGTERM)
    queue = JobQueue(watched.client, Settings(redis_url=watched.stack.redis.url))
    first = queue.submit(request(model=CARD.name))
    long_ago = (datetime.now(UTC) - timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    watched.client.hset(f"rq:job:{first}", "enqueued_at", long_ago)
    submissions = range(MAX_QUEUE_LENGTH + 5)
    statuses = [watched.stack.generate(wait=False).status_code for _ in submissions]
    assert statuses.count(429) >= 5
    watched.fires(
        "DarkroomNoReadyWorker",
        "DarkroomWorkerNotScraped",
        "DarkroomQueueBacklog",
        "DarkroomQueueFull",
        "DarkroomJobWaitsLong",
    )


def no_redis(watched: Watched) -> None:
    watched.stack.redis.kill()

    def refused() -> None:
        assert watched.stack.generate(wait=False).status_code == 503

    watched.fires(
        "DarkroomRedisDown", "DarkroomRedisErrors", "DarkroomApiErrors", meanwhile=refused
    )


def no_api(watched: Watched) -> None:
    watched.stack.api.end()
    with pytest.raises(httpx.TransportError):
        watched.stack.client.get("/healthz")
    watched.fires("DarkroomApiDown")


def suspend(send: Callable[[signal.Signals], None], seconds: float) -> None:
    send(signal.SIGSTOP)
    time.sleep(seconds)
    send(signal.SIGCONT)

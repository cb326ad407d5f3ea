"""Every alert fires when its fault is made, in a real house that a real Prometheus watches."""

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
from tests.observability.programs import DRAWING, WORKER, LocalStack, Program, local_stack
from tests.observability.prometheus import MISSING, PROMETHEUS, Prometheus
from tests.observability.rules import alerts
from tests.worker.consumer.harness import request

pytestmark = pytest.mark.early

MOST_WAITING = 30


class Watched:
    """A house and its Prometheus; remembers which alerts were seen."""

    def __init__(self, house: LocalStack, prometheus: Prometheus, client: redis.Redis) -> None:
        self.house = house
        self.prometheus = prometheus
        self.client = client
        self.seen: set[str] = set()

    def fires(self, *names: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.prometheus.wait_for(*names, meanwhile=meanwhile)
        self.seen |= set(names)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    limit = {"DARKROOM_MAX_QUEUE_LENGTH": str(MOST_WAITING)}
    with (
        local_stack(tmp_path, DRAWING, DRAWING, **limit) as house,
        Prometheus(tmp_path, house.targets) as prometheus,
        redis.Redis.from_url(house.redis.url) as client,
    ):
        yield Watched(house, prometheus, client)


@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
def test_every_alert_fires_when_its_fault_is_made(watched: Watched) -> None:
    for act in (
        all_is_well,
        small_faults,
        jobs_that_cannot_be_drawn,
        a_store_that_is_no_folder,
        a_worker_that_hangs_and_dies,
        a_slow_redis,
        no_worker_for_many_jobs,
        no_redis,
        no_api,
    ):
        act(watched)
    assert watched.seen == alerts().keys()


def all_is_well(watched: Watched) -> None:
    """Both programs are scraped, pictures are drawn, and nothing fires."""
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: watched.house.draw(), range(20)):
            answer.raise_for_status()
    wait_until(lambda: len(watched.prometheus.query("up == 1")) == 3, "all are scraped")
    wait_until(
        lambda: bool(watched.prometheus.query("sum(darkroom_worker_images_total) == 20")),
        "all pictures are counted",
    )
    # On a busy machine Prometheus may have looked before the programs answered.
    wait_until(lambda: watched.prometheus.firing() == set(), "nothing fires")


def small_faults(watched: Watched) -> None:
    """What needs nobody to suffer: a worker without a model, a full GPU, a tight Redis, a lag."""
    house = watched.house
    (house.folder / "gpu-is-full").touch()
    used = watched.client.info("memory")["used_memory"]
    watched.client.config_set("maxmemory", int(used * 1.15))
    watched.fires("DarkroomGpuMemory", "DarkroomRedisMemory")
    watched.client.config_set("maxmemory", 0)
    (house.folder / "gpu-is-full").unlink()
    hang(house.api.send, 1.0)
    watched.fires("DarkroomEventLoopLag")


def jobs_that_cannot_be_drawn(watched: Watched) -> None:
    """One that the engine breaks on, some that it refuses; and a worker whose model is missing."""
    nowhere = str(watched.house.folder / "no model here")
    failing = Program(
        WORKER,
        watched.house.folder,
        REDIS_URL=watched.house.redis.url,
        DARKROOM_MODEL=nowhere,
        DARKROOM_DEVICE="cpu",
    )
    failing.start()
    watched.house.draw("break", wait=False).raise_for_status()
    for _ in range(5):
        assert watched.house.draw("refuse").status_code == 500
    watched.fires("DarkroomEngineFails", "DarkroomJobsFail", "DarkroomWorkerSetupFailed")
    failing.end(signal.SIGTERM)


def a_store_that_is_no_folder(watched: Watched) -> None:
    """A file where the folder was; delivery is tried again until the folder is back."""
    store = watched.house.store
    store.rename(store.with_name("aside"))
    store.touch()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(watched.house.draw)
        watched.fires("DarkroomStoreErrors")
        store.unlink()
        store.with_name("aside").rename(store)
        answer.result().raise_for_status()


def a_worker_that_hangs_and_dies(watched: Watched) -> None:
    """The one that hangs is killed, again and again, and the other takes its job over."""
    watched.house.draw("hang", wait=False).raise_for_status()
    watched.fires("DarkroomWorkerStuck")
    # The other may have been seen with a job too, when it was last looked at.
    [hanging] = watched.prometheus.query('ALERTS{alertname="DarkroomWorkerStuck"} == 1')
    instance = hanging["metric"]["instance"]
    [worker] = [one for one in watched.house.workers if one.address == instance]
    started = f'changes(process_start_time_seconds{{instance="{instance}"}}[15m])'
    for times in (1, 2, 3):
        worker.restart()
        watched.prometheus.wait_until(f"{started} >= {times}")
    watched.fires("DarkroomWorkerDied", "DarkroomWorkerRestarts")


def a_slow_redis(watched: Watched) -> None:
    """It hangs for a moment, and again, while somebody asks for a job."""
    job = watched.house.draw(wait=False).json()["id"]
    for _ in range(2):
        with ThreadPoolExecutor(1) as pool:
            watched.house.redis.pause()
            answer = pool.submit(watched.house.client.get, f"/v1/jobs/{job}")
            time.sleep(1.5)
            watched.house.redis.resume()
            answer.result().raise_for_status()
    watched.fires("DarkroomRedisSlow", "DarkroomApiSlow")


def no_worker_for_many_jobs(watched: Watched) -> None:
    """The workers are stopped; more and more jobs wait, until there is room for no more."""
    for worker in watched.house.workers:
        worker.end(signal.SIGTERM)
    queue = JobQueue(watched.client, Settings(redis_url=watched.house.redis.url))
    first = queue.submit(request(model=CARD.name))
    long_ago = (datetime.now(UTC) - timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    watched.client.hset(f"rq:job:{first}", "enqueued_at", long_ago)
    answers = [watched.house.draw(wait=False).status_code for _ in range(MOST_WAITING + 5)]
    assert answers.count(429) >= 5
    watched.fires(
        "DarkroomNoReadyWorker",
        "DarkroomWorkerNotScraped",
        "DarkroomQueueBacklog",
        "DarkroomQueueFull",
        "DarkroomJobWaitsLong",
    )


def no_redis(watched: Watched) -> None:
    watched.house.redis.kill()

    def refused() -> None:
        assert watched.house.draw(wait=False).status_code == 503

    watched.fires(
        "DarkroomRedisDown", "DarkroomRedisErrors", "DarkroomApiErrors", meanwhile=refused
    )


def no_api(watched: Watched) -> None:
    watched.house.api.end()
    with pytest.raises(httpx.TransportError):
        watched.house.client.get("/healthz")
    watched.fires("DarkroomApiDown")


def hang(send: Callable[[signal.Signals], None], seconds: float) -> None:
    send(signal.SIGSTOP)
    time.sleep(seconds)
    send(signal.SIGCONT)

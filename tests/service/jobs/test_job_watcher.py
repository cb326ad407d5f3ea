"""JobWatcher: many waiting clients, lost messages, broken connections, and an emptied Redis."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from protocol.queue.job import JobState, Progress
from protocol.queue.progress import ProgressBoard
from service.jobs.job_watcher import _Waiter
from service.routes.deps import Services
from tests.service.conftest import Running, running
from tests.support.redis_server import RedisServer


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as clients:
        yield clients


def waiting(service: Running, clients: ThreadPoolExecutor, many: int) -> list[Future[int]]:
    """Start `many` clients that wait for their images while the worker is paused."""
    service.worker.hold()

    def request(seed: int) -> int:
        fields = {"prompt": "x", "seed": seed}
        response = httpx.post(f"{service.url}/v1/txt2img", json=fields, timeout=30)
        image_seed: int = response.raise_for_status().json()["images"][0]["seed"]
        return image_seed

    seeds = [clients.submit(request, seed) for seed in range(many)]
    services: Services = service.app.state.services
    while services.watcher.watched < many:
        time.sleep(0.01)
    return seeds


def test_each_client_gets_its_own_image(service: Running, clients: ThreadPoolExecutor) -> None:
    seeds = waiting(service, clients, 8)
    service.worker.release()
    assert [seed.result() for seed in seeds] == list(range(8))
    assert service.app.state.services.watcher.watched == 0


def test_broken_connection_is_restored(service: Running, clients: ThreadPoolExecutor) -> None:
    for _ in range(2):
        (seed,) = waiting(service, clients, 1)
        assert service.worker.redis.client_kill_filter(_type="pubsub") == 1
        service.worker.release()
        assert seed.result() == 0
        while not service.worker.redis.client_list(_type="pubsub"):
            time.sleep(0.01)


def test_lost_message_is_recovered_by_polling(
    service: Running, clients: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (seed,) = waiting(service, clients, 1)
    monkeypatch.setattr(ProgressBoard, "publish", lambda self, progress: None)
    service.worker.release()
    assert seed.result() == 0


def test_redis_restart_loses_no_image(clients: ThreadPoolExecutor) -> None:
    with RedisServer() as server, running(server.url) as service:
        seeds = waiting(service, clients, 2)
        server.stop()
        assert service.client.get("/readyz").status_code == 503
        server.start()
        service.worker.release()
        assert [seed.result() for seed in seeds] == [0, 1]


def test_waiting_client_gets_a_problem_when_redis_was_emptied(
    service: Running, clients: ThreadPoolExecutor
) -> None:
    service.worker.hold()
    url = f"{service.url}/v1/txt2img"
    answer = clients.submit(httpx.post, url, json={"prompt": "x"}, timeout=30)
    while not (job_ids := service.worker.waiting()):
        time.sleep(0.01)
    service.worker.redis.flushall()
    response = answer.result(timeout=5)
    assert response.status_code == 503
    assert response.json()["type"].endswith(":job-lost")
    assert job_ids[0] in response.json()["detail"]
    assert "location" not in response.headers  # there is nothing to follow
    assert int(response.headers["retry-after"]) > 0
    assert service.client.get(f"/v1/jobs/{job_ids[0]}").status_code == 404


@pytest.mark.parametrize("state", ["queued", "running"])
def test_events_end_when_redis_was_emptied(service: Running, state: str) -> None:
    service.worker.hold_at_step = 0 if state == "running" else -1
    service.worker.hold()
    headers = {"Prefer": "respond-async"}
    job_id = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=headers).json()["id"]
    while service.client.get(f"/v1/jobs/{job_id}").json()["state"] != state:
        time.sleep(0.01)
    with httpx.stream("GET", f"{service.url}/v1/jobs/{job_id}/events", timeout=5) as events:
        lines = events.iter_lines()
        assert next(lines) == f"event: {state}"
        service.worker.redis.flushall()
        last = [line for line in lines if line][-3:]
    assert (last[0], last[2]) == ("event: failed", "id: failed")
    assert json.loads(last[1].removeprefix("data: "))["error"]["type"].endswith(":job-lost")


def test_deleted_record_ends_the_wait_too(service: Running, clients: ThreadPoolExecutor) -> None:
    """As after an eviction, or a deletion in a tool of RQ's."""
    service.worker.hold()
    url = f"{service.url}/v1/txt2img"
    answer = clients.submit(httpx.post, url, json={"prompt": "x"}, timeout=30)
    while not (job_ids := service.worker.waiting()):
        time.sleep(0.01)
    service.worker.redis.delete(f"rq:job:{job_ids[0]}", *service.worker.redis.keys("rq:queue:*"))
    assert answer.result(timeout=5).json()["type"].endswith(":job-lost")


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_wait_ends_though_it_is_notified_at_the_same_time(turns: int) -> None:
    """`asyncio.wait_for` of Python 3.11 returned instead, and a stream went on without a client."""
    waiter = _Waiter()
    waiting = asyncio.create_task(waiter.wait(60))
    await asyncio.sleep(0)
    waiter.notify(Progress(job_id="0" * 32, state=JobState.RUNNING))
    for _ in range(turns):
        await asyncio.sleep(0)
    if waiting.cancel():  # it has not returned yet
        with pytest.raises(asyncio.CancelledError):
            await waiting

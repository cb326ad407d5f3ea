"""JobWatcher: many waiting clients, lost messages, broken connections and restarts of Redis."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from protocol.queue.progress import ProgressBoard
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

"""Waiting survives what may happen to the news: a broken link, a message lost, many who wait."""

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
    """That many clients, each waiting for a picture of its own that is held back."""
    service.worker.hold()

    def ask(seed: int) -> int:
        fields = {"prompt": "x", "seed": seed}
        answer = httpx.post(f"{service.url}/v1/txt2img", json=fields, timeout=30)
        seed_drawn: int = answer.raise_for_status().json()["images"][0]["seed"]
        return seed_drawn

    answers = [clients.submit(ask, seed) for seed in range(many)]
    services: Services = service.app.state.services
    while services.watcher.watched < many:
        time.sleep(0.01)
    return answers


def test_everyone_gets_their_own_picture(service: Running, clients: ThreadPoolExecutor) -> None:
    answers = waiting(service, clients, 8)
    service.worker.release()
    assert [answer.result() for answer in answers] == list(range(8))
    assert service.app.state.services.watcher.watched == 0


def test_a_broken_link_is_mended(service: Running, clients: ThreadPoolExecutor) -> None:
    for _ in range(2):
        (answer,) = waiting(service, clients, 1)
        assert service.worker.redis.client_kill_filter(_type="pubsub") == 1
        service.worker.release()
        assert answer.result() == 0
        while not service.worker.redis.client_list(_type="pubsub"):
            time.sleep(0.01)


def test_lost_news_are_found_by_looking(
    service: Running, clients: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (answer,) = waiting(service, clients, 1)
    monkeypatch.setattr(ProgressBoard, "publish", lambda self, progress: None)
    service.worker.release()
    assert answer.result() == 0


def test_a_redis_that_restarts_costs_nobody_their_picture(clients: ThreadPoolExecutor) -> None:
    with RedisServer() as server, running(server.url) as service:
        answers = waiting(service, clients, 2)
        server.stop()
        assert service.client.get("/readyz").status_code == 503
        server.start()
        service.worker.release()
        assert [answer.result() for answer in answers] == [0, 1]

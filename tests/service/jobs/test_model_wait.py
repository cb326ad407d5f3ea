"""Requests that arrive before the first model is published."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from protocol.connection.redis_client import connect
from protocol.registry.presence import Presence, WorkerReport, WorkerState
from service.jobs.model_directory import MAX_WAITING
from service.routes.deps import Services
from tests.service.conftest import serving
from tests.service.starting import Starting


@pytest.fixture
def starting(redis_url: str) -> Iterator[Starting]:
    starting = Starting(redis_url)
    with serving(starting.app, starting.settings) as starting.url:
        yield starting


def test_requests_wait_for_the_first_model(starting: Starting) -> None:
    with ThreadPoolExecutor(3) as pool:
        waiting = pool.submit(starting.post)
        queued = pool.submit(starting.post, "respond-async")
        urgent = pool.submit(starting.post, "respond-async", deadline_s=50)
        starting.until_waiting(3)
        with starting.worker() as worker:
            assert waiting.result().status_code == 200
            assert queued.result().status_code == urgent.result().status_code == 202
            while len(worker.seen) < 3:
                time.sleep(0.01)
    deadlines = sorted(request.deadline_s or 0 for request in worker.seen)
    assert deadlines[:2] == [0, 0]
    assert 0 < deadlines[2] < 50  # what is left of it


@pytest.mark.parametrize(
    ("prefer", "fields"), [("wait=1", {}), ("respond-async, wait=1", {}), ("", {"deadline_s": 1})]
)
def test_request_waits_within_its_own_limit(
    starting: Starting, prefer: str, fields: dict[str, object]
) -> None:
    response = starting.post(prefer, **fields)
    assert response.status_code == 503
    assert response.json()["type"].endswith(":not-ready")
    assert int(response.headers["retry-after"]) > 0


def test_waiting_ends_if_every_worker_has_failed(starting: Starting) -> None:
    with connect(starting.redis_url) as redis, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(starting.post)
        starting.until_waiting(1)
        Presence(redis).report(WorkerReport(name="broken", state=WorkerState.SETUP_FAILED))
        assert waiting.result().status_code == 503


def test_client_that_leaves_waits_no_longer(starting: Starting) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{starting.url}/v1/txt2img", json={"prompt": "x"}, timeout=httpx.Timeout(30, read=0.5)
        )
    with starting.worker() as worker:
        assert starting.post().status_code == 200
    assert len(worker.seen) <= 2  # the other may have been accepted before it was noticed


async def test_number_of_waiting_requests_is_bounded(starting: Starting) -> None:
    services: Services = starting.app.state.services
    models = services.directory
    models.waiting = MAX_WAITING
    await asyncio.wait_for(models.wait_until_published(3600), 30)
    models.waiting = 0

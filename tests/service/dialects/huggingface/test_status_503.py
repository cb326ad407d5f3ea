"""The status 503, which @huggingface/inference repeats at once and without end."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from protocol.connection.redis_client import connect
from protocol.registry.presence import Presence, WorkerReport, WorkerState
from service.dialects.huggingface import routes
from tests.service.conftest import running, serving
from tests.service.starting import Starting

PATH = "/models/someone/tiny"
WAIT = {"x-wait-for-model": "true"}


def test_a_full_queue_is_no_503(redis_url: str) -> None:
    with running(redis_url, max_queue_length=1) as service:
        service.worker.hold()
        headers = {"Prefer": "respond-async"}
        native = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=headers)
        assert native.status_code == 202
        response = service.client.post(PATH, json={"inputs": "a cat"})
        assert (response.status_code, "retry-after" in response.headers) == (429, True)
        assert "jobs are waiting" in response.json()["error"]


@pytest.fixture
def starting(redis_url: str) -> Iterator[Starting]:
    starting = Starting(redis_url)
    with serving(starting.app, starting.settings) as starting.url:
        yield starting


@pytest.mark.parametrize(
    ("options", "headers"),
    [({"wait_for_model": True}, {}), ({"wait_for_model": "true"}, {}), ({}, WAIT)],
)
def test_a_client_may_wait_for_a_model(
    starting: Starting,
    options: dict[str, object],
    headers: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "LOADING_WAIT_S", 0.0)
    with ThreadPoolExecutor(1) as pool:
        body = {"inputs": "a cat", "options": options}
        waiting = pool.submit(starting.send, PATH, body, headers)
        starting.until_waiting(1)
        with starting.worker():
            assert waiting.result().status_code == 200


def test_other_clients_get_a_time(starting: Starting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "LOADING_WAIT_S", 0.1)
    response = starting.send(PATH, {"inputs": "a cat"}, {})
    assert response.status_code == 503
    body = response.json()
    assert body.keys() == {"error", "estimated_time"}
    assert body["estimated_time"] == int(response.headers["retry-after"]) > 0


def test_a_model_that_never_comes_is_no_503(starting: Starting) -> None:
    with connect(starting.redis_url) as redis:
        Presence(redis).report(WorkerReport(name="broken", state=WorkerState.SETUP_FAILED))
    response = starting.send(PATH, {"inputs": "a cat"}, WAIT)
    assert (response.status_code, response.json().keys()) == (500, {"error"})

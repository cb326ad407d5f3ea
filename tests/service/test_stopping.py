"""Problems in place of silence: a stopping service, too many connections, lost jobs."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress

import httpx
import pytest

from protocol.storage.object_store import ObjectStore
from service.routes.deps import Services
from tests.service.conftest import Running, running
from tests.service.raw_http import HEAD, RawResponse, connected, read_until, received, responses_of

ASYNC = {"Prefer": "respond-async"}
GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: %b\r\n\r\n"


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as clients:
        yield clients


def until_watched(service: Running) -> None:
    services: Services = service.app.state.services
    while not services.watcher.watched:
        time.sleep(0.01)


def problem(response: RawResponse) -> dict[str, object]:
    assert response.headers["content-type"] == "application/problem+json"
    return dict(json.loads(response.body))


def release_when_stopping(service: Running) -> None:
    """Let the job run once the service accepts no more connections.

    One that is already accepted then is closed without an answer.
    """
    with suppress(httpx.TransportError):
        while True:
            httpx.get(f"{service.url}/healthz", timeout=60)
            time.sleep(0.01)
    service.worker.release()


def test_waiting_client_is_told_that_the_service_stops(
    redis_url: str, clients: ThreadPoolExecutor
) -> None:
    """It gets the path of its job, which goes on."""
    with running(redis_url, shutdown_grace_s=0) as service:
        service.worker.hold()
        url = f"{service.url}/v1/txt2img"
        waiting = clients.submit(httpx.post, url, json={"prompt": "x"}, timeout=30)
        until_watched(service)
        (job_id,) = service.worker.waiting()
    response = waiting.result()
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"].endswith(":service-stopping")
    assert response.json()["job"] == response.headers["location"] == f"/v1/jobs/{job_id}"
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_events_end_with_the_problem_when_the_service_stops(redis_url: str) -> None:
    with ExitStack() as stack:
        with running(redis_url, shutdown_grace_s=0) as service:
            service.worker.hold()
            job = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=ASYNC).json()
            connection = stack.enter_context(closing(connected(service)))
            path = f"/v1/jobs/{job['id']}"
            connection.sendall(GET % (f"{path}/events".encode(), b"keep-alive"))
            read_until(connection, b"event: queued")
            until_watched(service)
        text = received(connection).decode()
    name, data, retry = text[text.index("event: problem") :].split("\n")[:3]
    assert name == "event: problem"
    shown = json.loads(data.removeprefix("data: "))
    assert shown["type"].endswith(":service-stopping")
    assert (shown["status"], shown["job"]) == (503, path)
    assert int(retry.removeprefix("retry: ")) > 0
    assert text.endswith("\r\n0\r\n\r\n")  # the stream is complete


def test_upload_is_told_that_the_service_stops(redis_url: str) -> None:
    with ExitStack() as stack:
        with running(redis_url, shutdown_grace_s=0) as service:
            connection = stack.enter_context(closing(connected(service)))
            connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n")
            read_until(connection, b"\r\n\r\n")
        (response,) = responses_of(connection)
    assert response.status == 503
    shown = problem(response)
    assert str(shown["type"]).endswith(":service-stopping")
    assert "job" not in shown
    assert int(response.headers["retry-after"]) > 0


def test_job_that_ends_within_the_grace_is_answered(
    redis_url: str, clients: ThreadPoolExecutor
) -> None:
    with running(redis_url, shutdown_grace_s=20) as service:
        service.worker.hold()
        url = f"{service.url}/v1/txt2img"
        waiting = clients.submit(httpx.post, url, json={"prompt": "x"}, timeout=30)
        until_watched(service)
        clients.submit(release_when_stopping, service)
    assert waiting.result().status_code == 200


class Broken:
    """Ends event streams with an unexpected exception."""

    async def job(self, *_: object) -> object:
        raise RuntimeError("a secret")


def test_events_end_with_the_problem_after_a_fault(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.worker.hold()
    job = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=ASYNC).json()
    with closing(connected(service)) as connection:
        connection.sendall(GET % (f"/v1/jobs/{job['id']}/events".encode(), b"close"))
        read_until(connection, b"event: queued")
        monkeypatch.setattr("service.schemas.response_builder.ResponseBuilder.job", Broken().job)
        service.worker.release()
        text = received(connection).decode()
    (data,) = [line for line in text.split("\n") if line.startswith("data: {")][-1:]
    assert "event: problem" in text
    assert json.loads(data.removeprefix("data: "))["type"].endswith(":internal")
    assert "secret" not in text


def test_connection_limit_is_a_problem_and_spares_health(redis_url: str) -> None:
    """Three connections that are not idle take all that are allowed."""
    with running(redis_url, max_connections=3) as service, ExitStack() as stack:
        for _ in range(3):
            busy = stack.enter_context(closing(connected(service)))
            busy.sendall(GET % (b"/healthz", b"keep-alive"))
            read_until(busy, b'{"status":"ok"}')
            busy.sendall(b"GET /")
        with closing(connected(service)) as connection:
            connection.sendall(GET % (b"/healthz", b"keep-alive") + GET % (b"/v1/models", b"close"))
            health, refused = responses_of(connection)
        assert (health.status, refused.status) == (200, 503)
        assert str(problem(refused)["type"]).endswith(":too-many-connections")
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["x-request-id"]


def test_idle_connection_makes_room(redis_url: str) -> None:
    with running(redis_url, max_connections=2) as service, ExitStack() as stack:
        idle = [stack.enter_context(closing(connected(service))) for _ in range(2)]
        for connection in idle:
            connection.sendall(GET % (b"/healthz", b"keep-alive"))
            read_until(connection, b'{"status":"ok"}')
        with closing(connected(service)) as connection:
            connection.sendall(GET % (b"/v1/models", b"close"))
            assert [response.status for response in responses_of(connection)] == [200]
        assert idle[0].recv(1) == b""  # the one that had been idle for longest
        idle[1].sendall(GET % (b"/healthz", b"close"))
        assert [response.status for response in responses_of(idle[1])] == [200]


def test_idle_connection_is_closed_in_time(redis_url: str) -> None:
    with running(redis_url, keep_alive_s=1) as service, closing(connected(service)) as connection:
        connection.sendall(GET % (b"/healthz", b"keep-alive"))
        read_until(connection, b'{"status":"ok"}')
        assert connection.recv(1) == b""


def test_images_that_are_gone_are_a_lost_job(service: Running) -> None:
    """The record says finished, but the store has lost the files."""
    service.worker.store = ObjectStore.open("memory:///")  # another one than the service's
    response = service.client.post("/v1/txt2img", json={"prompt": "x"})
    assert response.status_code == 503
    assert response.json()["type"].endswith(":job-lost")
    assert int(response.headers["retry-after"]) > 0
    assert "location" not in response.headers

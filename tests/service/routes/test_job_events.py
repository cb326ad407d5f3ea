"""Following a job: resumption of event streams, and WebSockets with all checks of requests."""

import asyncio
import base64
import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from protocol.auth.api_keys import ApiKey, KeyLimits, KeyRecords, Scope
from protocol.queue.job import JobState, JobView, Progress
from protocol.queue.progress import Previews
from protocol.storage.object_store import ObjectStore
from service.app import create_app
from service.http_protocol import server_config
from service.routes.deps import Services
from service.schemas.problem import MEDIA_TYPE
from tests.service.conftest import (
    CARD,
    Running,
    running,
    serving_with,
    settings_for,
    word_tokenizer,
)
from tests.service.fake_worker import FakeWorker, preview
from tests.service.raw_http import connected, received, responses_of
from tests.service.routes.test_jobs import submit, until
from tests.support.redis_server import free_port

LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
ADMIN_KEY = "an-admin-key-of-thirty-two-characters-or-more"
ADMIN = {"X-API-Key": ADMIN_KEY}


@pytest.fixture
def secured(redis_url: str) -> Iterator[Running]:
    """Run a service that needs keys."""
    with running(redis_url, auth="required", admin_key=ADMIN_KEY) as service:
        service.client.headers.update(ADMIN)
        yield service


def events(service: Running, path: str, last: str = "") -> list[dict[str, Any]]:
    """Return the server-sent events of a job until the stream ends."""
    headers = {"Last-Event-ID": last} if last else {}
    found: list[dict[str, Any]] = []
    with service.client.stream("GET", f"{path}/events", headers=headers, timeout=30) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                found.append({})
            if name in ("event", "id", "data"):
                found[-1][name] = json.loads(value) if name == "data" else value
    return found


def opened(service: Running, path: str, **options: Any) -> ClientConnection:
    url = service.url.replace("http", "ws", 1)
    return connect(f"{url}{path}", proxy=None, compression=None, **options)


def messages(connection: ClientConnection) -> Iterator[dict[str, Any]]:
    for message in connection:
        yield json.loads(message)


# ---- resumption --------------------------------------------------------------------------------


def test_seen_event_is_not_repeated(service: Running) -> None:
    service.worker.hold()
    path = submit(service)
    with service.client.stream("GET", f"{path}/events") as response:
        lines = response.iter_lines()
        seen = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
    services: Services = service.app.state.services
    while services.watcher.watched:
        time.sleep(0.01)
    headers = {"Last-Event-ID": seen}
    with service.client.stream("GET", f"{path}/events", headers=headers) as response:
        while not services.watcher.watched:
            time.sleep(0.01)
        service.worker.release()
        names = [line for line in response.iter_lines() if line.startswith("event: ")]
    assert "event: queued" not in names
    assert names[-1] == "event: finished"


def test_state_that_was_missed_is_sent_at_once(service: Running) -> None:
    path = submit(service)
    until(service, path, "finished")
    assert [event["event"] for event in events(service, path, "queued-0")] == ["finished"]
    [last] = events(service, path)
    headers = {"Last-Event-ID": last["id"]}
    assert service.client.get(f"{path}/events", headers=headers).status_code == 204


def test_ids_are_those_of_the_states(service: Running) -> None:
    """Another API process would give the same ids: they follow from what the events say."""
    path = submit(service, steps=20)
    found = events(service, path)
    by_id = {event["id"]: event["data"] for event in found}
    assert len(by_id) == len(found)
    assert all(event["id"].startswith(event["event"]) for event in found)


def test_id_is_bounded(service: Running) -> None:
    path = submit(service)
    response = service.client.get(f"{path}/events", headers={"Last-Event-ID": "x" * 101})
    assert response.status_code == 422


def test_previews_are_those_that_no_earlier_event_has_sent(service: Running) -> None:
    service.worker.hold()
    path = submit(service, n=2, steps=3, previews=True)
    job = path.rpartition("/")[2]
    services: Services = service.app.state.services
    board, each = services.board, {0: preview(0), 1: preview(1)}

    def progress(step: int, number: int) -> Progress:
        return Progress(job_id=job, state=JobState.RUNNING, step=step, steps=3, previews=number)

    board.publish_all([progress(1, 1)], {job: Previews(each[0], each, 1)})
    view = JobView(id=job, state=JobState.RUNNING, progress=progress(2, 2))
    board.publish_all([progress(2, 2)], {job: Previews(None, {1: preview(5)}, 2)})
    builder = services.response_builder("")
    for seen, indices in ((0, [0, 1]), (1, [1]), (2, None)):
        found = asyncio.run(builder.job(view, seen)).progress
        assert found is not None
        assert [one.index for one in found.previews or ()] == (indices or [])
        assert (found.preview is None) == (indices is None)


# ---- WebSockets --------------------------------------------------------------------------------


def test_websocket_sends_what_the_event_stream_sends(service: Running) -> None:
    service.worker.hold()
    path = submit(service, steps=20)
    with opened(service, f"{path}/ws") as connection:
        first = json.loads(connection.recv())
        assert (first["event"], first["data"]["position"]) == ("queued", 0)
        service.worker.release()
        found = [first, *messages(connection)]
    assert connection.close_code == 1000
    assert found[-1] == {
        "event": "finished",
        "id": "finished",
        "data": service.client.get(path).json(),
    }
    running = [one["data"] for one in found if one["event"] == "running"]
    steps = [job["progress"]["step"] for job in running if "progress" in job]
    assert steps
    assert steps == sorted(steps)
    assert len({one["id"] for one in found}) == len(found)
    assert connection.response is not None
    assert connection.response.headers["X-Request-Id"]


def test_websocket_resumes(service: Running) -> None:
    path = submit(service)
    until(service, path, "finished")
    with opened(service, f"{path}/ws?last_event_id=queued-0") as connection:
        assert [one["event"] for one in messages(connection)] == ["finished"]
    with opened(service, f"{path}/ws?last_event_id=finished") as connection:
        assert [*messages(connection)] == []


def test_closed_websocket_is_released(service: Running) -> None:
    service.worker.hold()
    services: Services = service.app.state.services
    with opened(service, f"{submit(service)}/ws") as connection:
        connection.recv()
        assert services.watcher.watched == 1
    while services.watcher.watched:
        time.sleep(0.01)
    counted = 'route="/v1/jobs/{job_id}/ws",status="101"} 1.0'
    while counted not in service.client.get("/metrics").text:
        time.sleep(0.01)


def test_client_that_sends_too_much_is_cut_off(service: Running) -> None:
    service.worker.hold()
    with opened(service, f"{submit(service)}/ws") as connection:
        connection.recv()
        connection.send("x" * 100_000)
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=30)
    assert connection.close_code == 1009


def test_messages_of_the_client_are_ignored(service: Running) -> None:
    service.worker.hold()
    with opened(service, f"{submit(service)}/ws") as connection:
        connection.recv()
        for _ in range(200):
            connection.send("{}")
        service.worker.release()
        assert [*messages(connection)][-1]["event"] == "finished"


def refused(service: Running, path: str, **options: Any) -> dict[str, Any]:
    """Return the problem with which a WebSocket is refused before it is accepted."""
    with pytest.raises(InvalidStatus) as error:
        opened(service, path, **options)
    response = error.value.response
    assert response.headers["Content-Type"] == MEDIA_TYPE
    assert response.headers["X-Request-Id"]
    problem: dict[str, Any] = json.loads(response.body or b"")
    assert problem["status"] == response.status_code
    return problem


@pytest.mark.parametrize("key", [{}, {"Authorization": "Bearer x"}, {"X-API-Key": "x"}])
def test_websocket_needs_a_key(secured: Running, key: dict[str, str]) -> None:
    path = submit(secured)
    assert refused(secured, f"{path}/ws", additional_headers=key)["status"] == 401
    counted = 'route="none",status="401"} 1.0'
    assert counted in secured.client.get("/metrics").text


def test_websocket_takes_a_key_in_every_form(secured: Running) -> None:
    path = f"{submit(secured)}/ws"
    encoded = base64.urlsafe_b64encode(ADMIN_KEY.encode()).decode().rstrip("=")
    for options in (
        {"additional_headers": {"Authorization": f"Bearer {ADMIN_KEY}"}},
        {"additional_headers": ADMIN},
        {"subprotocols": ["darkroom.v1", f"darkroom.key.{encoded}"]},
    ):
        with opened(secured, path, **options) as connection:
            assert [*messages(connection)][-1]["event"] == "finished"
            expected = "darkroom.v1" if "subprotocols" in options else None
            assert connection.subprotocol == expected
    for wrong in ("darkroom.key.eA", "darkroom.key.%"[:-1], f"darkroom.key.{encoded}eA"):
        problem = refused(secured, path, subprotocols=["darkroom.v1", wrong])
        assert problem["status"] == 401


def test_websocket_needs_the_scope_and_the_key_of_the_job(secured: Running) -> None:
    path = f"{submit(secured)}/ws"
    for scopes, status in (({Scope.GENERATE}, 403), ({Scope.READ}, 404)):
        token, record = ApiKey.create("a client", frozenset(scopes), KeyLimits(), 0.0)
        KeyRecords(secured.worker.redis).add(record)
        time.sleep(0.3)  # unknown keys are read again after a quarter of a second at the earliest
        problem = refused(secured, path, additional_headers={"X-API-Key": token})
        assert problem["status"] == status
    unknown = refused(secured, f"/v1/jobs/{'0' * 32}/ws", additional_headers=ADMIN)
    assert unknown["type"].endswith(":unknown-job")
    assert refused(secured, "/v1/jobs/nonsense/ws", additional_headers=ADMIN)["status"] == 404


def test_websocket_of_another_site_is_refused(service: Running) -> None:
    """Browsers open a WebSocket to any site, and give the page's origin."""
    path = f"{submit(service)}/ws"
    assert refused(service, path, origin="https://evil.example")["status"] == 403
    host = service.url.removeprefix("http://")
    with opened(service, path, origin=f"http://{host}") as connection:
        assert [*messages(connection)][-1]["event"] == "finished"


def test_websocket_with_another_host_is_refused(service: Running) -> None:
    with closing(connected(service)) as connection:
        connection.sendall(upgrade("/v1/jobs/x/ws", host="rebound.example"))
        assert received(connection).startswith(b"HTTP/1.1 421")


def upgrade(path: str, host: str = "localhost") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def test_connections_are_limited(redis_url: str) -> None:
    with running(redis_url, max_connections=2) as service:
        service.worker.hold()
        path = f"{submit(service)}/ws"
        service.client.close()
        with opened(service, path) as first, opened(service, path) as second:
            assert json.loads(first.recv()) == json.loads(second.recv())
            problem = refused(service, path)
            assert problem["type"].endswith(":too-many-connections")
            assert httpx.get(f"{service.url}/healthz", timeout=60).status_code == 200


def test_offer_elsewhere_and_broken_offers_are_no_websockets(service: Running) -> None:
    with closing(connected(service)) as connection:
        connection.sendall(upgrade("/healthz") + LAST)
        assert received(connection).startswith(b"HTTP/1.1 200")
    with closing(connected(service)) as connection:
        connection.sendall(upgrade("/v1/jobs/x/ws").replace(b"Sec-WebSocket-Key", b"X-Key"))
        assert received(connection).startswith(b"HTTP/1.1 400")
    assert service.client.get(f"/v1/jobs/{'0' * 32}/ws").status_code == 404


KEY = b"Sec-WebSocket-Key: "


@pytest.mark.parametrize(
    ("head", "status", "kind"),
    [
        (upgrade("/v1/jobs/x/ws").replace(KEY, KEY + b"x"), 400, "malformed-request"),
        (upgrade("/v1/jobs/x/ws").replace(b": 13", b": 12"), 400, "malformed-request"),
        (upgrade("/v1/jobs/x/ws")[:-2] + b"X-A: b\r\n" * 200 + b"\r\n", 400, "malformed-request"),
        (upgrade("/nowhere/ws"), 404, "not-found"),
        (upgrade("/v1/jobs/x/ws").replace(b"GET", b"POST"), 404, "not-found"),
    ],
    ids=["key", "version", "too many headers", "unknown path", "method"],
)
def test_refused_websocket_is_told_why(
    service: Running, head: bytes, status: int, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every refusal is a problem, and none an error of the server in its log."""
    with closing(connected(service)) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        (response,) = responses_of(connection)
    assert response.status == status
    assert json.loads(response.body)["type"].endswith(f":{kind}")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_client_that_answers_no_ping_is_cut_off(redis_url: str) -> None:
    store, settings = ObjectStore.open("memory:///"), settings_for(redis_url, port=free_port())
    app = create_app(settings, store)
    config = server_config(app, settings)
    config.ws_ping_interval, config.ws_ping_timeout = 0.1, 0.3
    with (
        FakeWorker(redis_url, store, CARD, word_tokenizer()) as worker,
        serving_with(config) as url,
    ):
        worker.hold()
        headers = {"Prefer": "respond-async"}
        queued = httpx.post(
            f"{url}/v1/txt2img", json={"prompt": "x"}, headers=headers, timeout=60
        ).json()
        watcher = app.state.services.watcher
        port = int(url.rpartition(":")[2])
        with closing(socket.create_connection(("127.0.0.1", port))) as connection:
            connection.sendall(upgrade(f"/v1/jobs/{queued['id']}/ws"))
            while not watcher.watched:
                time.sleep(0.01)
            while watcher.watched:
                time.sleep(0.01)


def test_stopping_service_closes_websockets(redis_url: str) -> None:
    with ExitStack() as stack:
        with running(redis_url) as service:
            service.worker.hold()
            connection = stack.enter_context(opened(service, f"{submit(service)}/ws"))
            connection.recv()
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=30)
        assert connection.close_code == 1012

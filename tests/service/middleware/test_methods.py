"""HEAD and OPTIONS on every route."""

import re
import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from protocol.request.object_keys import Extra
from service.routes.deps import Services
from tests.service.conftest import CARD, Running, running
from tests.service.raw_http import connected

OTHER_PAGES = {"/": {"get"}, "/docs": {"get"}, "/openapi.json": {"get"}, "/metrics": {"get"}}
CHANGING = {"date", "x-request-id", "x-process-time"}  # from one response to the next


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    """Run a service whose model has files of every kind that the fake worker makes."""
    card = CARD.model_copy(update={"outputs": ("image", Extra.SOUND)})
    with running(redis_url, card) as service:
        yield service


@pytest.fixture
def paths(service: Running) -> dict[str, set[str]]:
    """Return the path of every route with its methods, for a finished job with a sound."""
    fields = {"prompt": "x", "audio_format": "wav"}
    job = service.client.post("/v1/txt2img", json=fields).raise_for_status().json()
    described = service.client.get("/openapi.json").json()["paths"]
    known = dict.fromkeys(("batch_id", "install_id", "file_id", "request_id"), "0" * 32)
    known |= {"job_id": job["id"], "index": "0", "kind": "sound"}
    routes = [
        (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), set(methods))
        for path, methods in described.items()
    ]
    # A path may be that of several routes, as GET of a model named tiny/load is.
    filled = {
        path: set[str]().union(*(methods for route, methods in routes if route.fullmatch(path)))
        for path in (
            re.sub(r"\{(\w+)\}", lambda part: known.get(part[1], CARD.name), template)
            for template in described
        )
    }
    return filled | OTHER_PAGES | {"/pages/docs.js": {"get"}}


def of_get(response: httpx.Response) -> tuple[int, dict[str, str]]:
    headers = {name: value for name, value in response.headers.items() if name not in CHANGING}
    headers.pop("transfer-encoding", None)  # of an event stream
    return response.status_code, headers


def test_head_is_get_without_the_body(service: Running, paths: dict[str, set[str]]) -> None:
    gets = [path for path, methods in paths.items() if "get" in methods]
    assert len(gets) >= 12
    for path in gets:
        get, head = service.client.get(path), service.client.head(path)
        assert head.content == b"", path
        if path == "/metrics":  # which counts both requests
            assert head.headers["content-type"] == get.headers["content-type"]
        else:
            assert of_get(head) == of_get(get), path


def test_head_leaves_the_connection_in_order(service: Running) -> None:
    lines = b"%b HTTP/1.1\r\nHost: localhost\r\n"
    last = lines % b"GET /healthz" + b"Connection: close\r\n\r\n"
    with closing(connected(service)) as connection:
        connection.sendall(lines % b"HEAD /docs" + b"\r\n" + last)
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    head, second, body = data.split(b"\r\n\r\n")
    assert (head[:15], second[:15]) == (b"HTTP/1.1 200 OK",) * 2
    assert body == b'{"status":"ok"}'


def test_head_of_events_ends_at_once(service: Running) -> None:
    service.worker.hold()
    headers = {"Prefer": "respond-async"}
    job = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=headers).json()
    response = service.client.head(f"/v1/jobs/{job['id']}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    services: Services = service.app.state.services
    while services.watcher.watched:
        time.sleep(0.01)


@pytest.mark.parametrize("path", ["/v1/txt2img", "/v1/jobs/x", "/nowhere"])
def test_head_has_the_status_of_get(service: Running, path: str) -> None:
    get, head = service.client.get(path), service.client.head(path)
    assert of_get(head) == of_get(get)
    assert head.status_code in (404, 405, 422)


def test_options_gives_the_methods(service: Running, paths: dict[str, set[str]]) -> None:
    for path, methods in paths.items():
        response = service.client.options(path)
        expected = {method.upper() for method in methods} | {"OPTIONS"}
        assert response.status_code == 204
        assert allowed(response) == (expected | {"HEAD"} if "GET" in expected else expected), path


def test_other_methods_get_the_same_list(service: Running, paths: dict[str, set[str]]) -> None:
    for path in paths:
        refused = service.client.request("PATCH", path)
        assert refused.status_code == 405
        assert "json" in refused.headers["content-type"]  # of a problem, or a dialect's error
        assert allowed(refused) == allowed(service.client.options(path)), path


def test_options_of_an_unknown_path(service: Running) -> None:
    response = service.client.options("/nowhere")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_options_needs_no_key(redis_url: str) -> None:
    with running(redis_url, auth="required", admin_key="k" * 32) as service:
        assert allowed(service.client.options("/v1/txt2img")) == {"POST", "OPTIONS"}
        assert service.client.head("/v1/models").status_code == 401


@pytest.mark.parametrize(
    ("origin", "method", "status"),
    [
        ("https://good.example", "POST", 200),
        ("https://good.example", "PATCH", 403),
        ("https://other.example", "POST", 403),
    ],
)
def test_preflight_request_is_allowed_or_a_problem(
    redis_url: str, origin: str, method: str, status: int
) -> None:
    with running(redis_url, allowed_origins="https://good.example") as service:
        headers = {"Origin": origin, "Access-Control-Request-Method": method}
        response = service.client.options("/v1/txt2img", headers=headers)
    assert response.status_code == status
    assert "Origin" in response.headers["vary"]
    if status == 403:
        assert response.headers["content-type"] == "application/problem+json"
        assert int(response.headers["content-length"]) == len(response.content)


def test_head_is_logged_as_head(service: Running) -> None:
    service.client.head("/v1/models")
    counted = 'darkroom_http_requests_total{method="HEAD",route="/v1/models",status="200"} 1.0'
    assert counted in service.client.get("/metrics").text


def allowed(response: httpx.Response) -> set[str]:
    return set(response.headers["allow"].split(", "))

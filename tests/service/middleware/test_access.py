"""Access control: API keys, scopes, limits, hosts and origins, and jobs of other keys."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.routing import WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync import client as web_socket

from protocol.auth.api_keys import ApiKey, KeyLimits, KeyRecords, Scope
from protocol.connection.redis_client import connect
from service.auth.api_keys import ApiKeyBackend
from service.middleware.public_paths import HEALTH, PAGES
from service.network_addresses import is_loopback
from service.settings import ServiceSettings
from tests.service.conftest import Running, running, settings_for
from tests.service.keys import ADMIN_KEY, key_for
from tests.support.forked_program import ForkedProgram, run_forked
from tests.support.redis_server import RedisServer, free_port

ASYNC = {"Prefer": "respond-async"}
JOB_ID = "0" * 32


@pytest.fixture
def secured(redis_url: str) -> Iterator[Running]:
    """Run a service that needs keys."""
    with running(redis_url, auth="required", admin_key=ADMIN_KEY) as service:
        yield service


def submit(service: Running, key: dict[str, str], **fields: object) -> httpx.Response:
    return service.client.post("/v1/txt2img", json={"prompt": "x", **fields}, headers=key | ASYNC)


def every_route(service: Running) -> list[tuple[str, str]]:
    """Return method and path of every route, with the path parameters filled in."""
    known = dict.fromkeys(("job_id", "batch_id", "install_id", "file_id", "request_id"), JOB_ID)
    known |= {"index": "0", "kind": "depth", "name": "docs.js"}
    found = {
        (method, re.sub(r"\{(\w+)\}", lambda part: known.get(part[1], "tiny"), context.path))
        for context in iter_route_contexts(service.app.routes)
        for method in context.methods or ()
        if context.path
    }
    return sorted(found)


def web_sockets(service: Running) -> list[str]:
    """Return the path of every WebSocket, with the path parameters filled in."""
    found = [
        context.path.format(job_id=JOB_ID)
        for context in iter_route_contexts(service.app.routes)
        if context.path and isinstance(context.route, WebSocketRoute)
    ]
    return sorted(found)


def test_every_web_socket_needs_a_key(secured: Running) -> None:
    paths = web_sockets(secured)
    assert f"/v1/jobs/{JOB_ID}/ws" in paths
    url = secured.url.replace("http", "ws", 1)
    for path in [*paths, "/v1/nowhere/ws"]:
        with pytest.raises(InvalidStatus) as refused:
            web_socket.connect(f"{url}{path}", proxy=None)
        assert refused.value.response.status_code == 401, path


def test_every_route_needs_a_key_but_health_and_pages(secured: Running) -> None:
    routes = every_route(secured)
    assert len(routes) >= 15
    for method, path in routes:
        status = secured.client.request(method, path).status_code
        if path in HEALTH | PAGES:
            assert status in (200, 405), (method, path)
        else:
            assert status == 401, (method, path)


@pytest.mark.parametrize(
    "path", ["/v1/nowhere", "/healthz/x", "/healthz/", "/docs/", "/v1/models/"]
)
def test_unknown_path_needs_a_key(secured: Running, path: str) -> None:
    assert secured.client.get(path).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ADMIN_KEY}"},
        {"authorization": f"bearer  {ADMIN_KEY}"},
        {"X-API-Key": ADMIN_KEY},
    ],
)
def test_valid_key_is_accepted(secured: Running, headers: dict[str, str]) -> None:
    assert secured.client.get("/v1/models", headers=headers).status_code == 200
    assert secured.client.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer"},
        {"Authorization": ADMIN_KEY},
        {"Authorization": f"Basic {ADMIN_KEY}"},
        {"Authorization": f"Bearer {ADMIN_KEY}x"},
        {"Authorization": f"Bearer {ADMIN_KEY[:-1]}"},
        {"X-API-Key": f"dk_{'0' * 12}_{'A' * 43}"},
        {"X-API-Key": "\xe4\xf6\xfc"},
        {"X-API-Key": "x" * 5000},
        {"Cookie": f"key={ADMIN_KEY}"},
    ],
)
def test_invalid_key_is_rejected(secured: Running, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    response = secured.client.get("/v1/models", headers=raw)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["type"].endswith(":unauthorized")


def test_key_in_the_url_is_rejected(secured: Running) -> None:
    assert secured.client.get(f"/v1/models?api_key={ADMIN_KEY}").status_code == 401


def test_body_is_not_read_without_a_key(secured: Running) -> None:
    """The response comes when the client has sent a tenth of its body."""

    def body() -> Iterator[bytes]:
        yield b"x" * 1000
        raise AssertionError("more was read")

    with pytest.raises(AssertionError, match="more was read"):
        secured.client.post("/v1/txt2img", content=body(), headers={"Content-Length": "10000"})
    with secured.client.stream("POST", "/v1/txt2img", content=b"{") as response:
        assert response.status_code == 401


def test_scopes_limit_a_key(secured: Running) -> None:
    reader, writer = key_for(secured, Scope.READ), key_for(secured, Scope.GENERATE)
    watcher = key_for(secured, Scope.METRICS)
    refused = submit(secured, reader)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:darkroom:problem:forbidden")
    assert submit(secured, writer).status_code == 202
    for key, path, status in (
        (reader, "/v1/models", 200),
        (reader, "/metrics", 403),
        (writer, "/v1/models", 403),
        (watcher, "/metrics", 200),
        (watcher, "/v1/models", 403),
    ):
        assert secured.client.get(path, headers=key).status_code == status, path
    assert secured.client.delete(f"/v1/jobs/{JOB_ID}", headers=reader).status_code == 403


def test_job_is_visible_to_its_key_only(secured: Running) -> None:
    own_key, other_key = key_for(secured), key_for(secured)
    admin = {"X-API-Key": ADMIN_KEY}
    path = submit(secured, own_key).headers["location"]
    while secured.client.get(path, headers=own_key).json()["state"] != "finished":
        time.sleep(0.01)
    for below in ("", "/events", "/images/0"):
        assert secured.client.get(path + below, headers=own_key).status_code == 200
        assert secured.client.get(path + below, headers=admin).status_code == 200
        foreign = secured.client.get(path + below, headers=other_key)
        unknown = secured.client.get(f"/v1/jobs/{JOB_ID}{below}", headers=other_key)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.json()["type"] == unknown.json()["type"]
    assert secured.client.delete(path, headers=other_key).status_code == 404


def test_another_key_cannot_cancel(secured: Running) -> None:
    own_key, other_key = key_for(secured), key_for(secured)
    secured.worker.hold()
    path = submit(secured, own_key).headers["location"]
    assert secured.client.delete(path, headers=other_key).status_code == 404
    assert secured.client.get(path, headers=own_key).json()["state"] == "queued"
    assert secured.client.delete(path, headers=own_key).json()["state"] == "cancelled"


def test_requests_per_minute_are_limited(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=3)
    responses = [submit(secured, key) for _ in range(5)]
    assert [response.status_code for response in responses] == [202, 202, 202, 429, 429]
    assert 0 < int(responses[-1].headers["retry-after"]) <= 20
    assert responses[-1].json()["type"].endswith(":rate-limited")
    assert submit(secured, key_for(secured)).status_code == 202


def test_pixel_steps_per_minute_are_limited(secured: Running) -> None:
    key = key_for(secured, pixel_steps_per_minute=64 * 64 * 4 * 2)
    assert submit(secured, key).status_code == 202
    assert submit(secured, key, width=128, height=64).json()["type"].endswith(":rate-limited")
    assert submit(secured, key).status_code == 202
    never = submit(secured, key, steps=9)
    assert (never.status_code, never.json()["field"]) == (422, "steps")
    assert never.json()["type"].endswith(":over-budget")


@pytest.mark.parametrize(
    ("limits", "field", "missing"),  # the missing share comes back in that share of a day
    [({"images_per_day": 3}, "n", 1 / 3), ({"megapixel_steps_per_day": 1}, "steps", 0.31072)],
)
def test_quotas_of_a_day(
    secured: Running, limits: dict[str, int], field: str, missing: float
) -> None:
    key = key_for(secured, **limits)
    half = {"n": 2} if field == "n" else {"width": 128, "height": 128, "steps": 40}
    assert submit(secured, key, **half).status_code == 202
    refused = submit(secured, key, **half)
    assert refused.status_code == 429
    assert "a day" in refused.json()["detail"]
    waits_s = int(refused.headers["retry-after"])
    assert missing * 86_400 - 3600 < waits_s <= missing * 86_400 + 1
    never = submit(secured, key, width=128, height=128, steps=40, n=4)
    assert (never.status_code, never.json()["field"]) == (422, field)
    assert submit(secured, key).status_code == 202


def test_jobs_at_once_are_limited(secured: Running) -> None:
    key = key_for(secured, jobs=2)
    secured.worker.hold()
    paths = [submit(secured, key).headers["location"] for _ in range(2)]
    refused = submit(secured, key)
    assert (refused.status_code, refused.json()["type"]) == (
        429,
        "urn:darkroom:problem:too-many-jobs",
    )
    assert int(refused.headers["retry-after"]) > 0
    secured.client.delete(paths[0], headers=key)
    assert submit(secured, key).status_code == 202
    assert submit(secured, key_for(secured)).status_code == 202


def test_revoked_key_is_rejected(secured: Running) -> None:
    key = key_for(secured)
    assert secured.client.get("/v1/models", headers=key).status_code == 200
    records = KeyRecords(secured.worker.redis)
    (key_id,) = records.all()
    records.revoke(key_id)
    while secured.client.get("/v1/models", headers=key).status_code == 200:
        time.sleep(0.05)
    assert secured.client.get("/v1/models", headers=key).status_code == 401


async def test_known_key_is_accepted_while_redis_is_unreachable() -> None:
    token, record = ApiKey.create("a client", frozenset({Scope.READ}), KeyLimits(), 0.0)
    with RedisServer() as server, connect(server.url) as redis:
        records = KeyRecords(redis)
        records.add(record)
        backend = ApiKeyBackend(records, settings_for(server.url))
        headers = Headers({"x-api-key": token})
        assert (await backend.authenticate(headers)).client == record.id
        server.stop()
        time.sleep(2.1)  # the cached keys are now too old
        assert (await backend.authenticate(headers)).client == record.id


def test_metrics_may_be_public(redis_url: str) -> None:
    with running(redis_url, auth="required", admin_key=ADMIN_KEY, public_metrics=True) as service:
        assert service.client.get("/metrics").status_code == 200
        assert service.client.get("/metrics", headers={"Host": "prometheus"}).status_code == 200
        assert service.client.get("/v1/models").status_code == 401


# ---- hosts and origins -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("darkroom.localhost", 200),
        ("192.168.1.7:8000", 200),
        ("rebound.example", 421),
        ("localhost.example", 421),
        ("127.0.0.1.example", 421),
        ("", 421),
        ("localhost:8000:8000", 421),
        ("localhost/", 421),
        ("user@localhost", 421),
        ("x" * 300, 421),
    ],
)
def test_foreign_host_is_rejected_without_keys(service: Running, host: str, status: int) -> None:
    response = service.client.get("/v1/models", headers={"Host": host})
    assert response.status_code == status, response.text
    assert service.client.get("/healthz", headers={"Host": host}).status_code == 200


def test_allowed_hosts_are_accepted(redis_url: str) -> None:
    names = "images.example.org, *.example.net"
    with running(redis_url, allowed_hosts=names) as service:
        for host, status in (
            ("Images.Example.org:443", 200),
            ("a.example.net", 200),
            ("example.net", 421),
            ("localhost", 200),
            ("[::1]:8000", 200),
            ("192.168.1.7", 421),
        ):
            response = service.client.get("/v1/models", headers={"Host": host})
            assert response.status_code == status
            assert status == 200 or "DARKROOM_ALLOWED_HOSTS" in response.json()["detail"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://{host}", 200),
        ("HTTP://{host}", 200),
        ("https://{host}", 200),  # through a proxy with TLS that is not declared
        ("https://evil.example", 403),
        ("ftp://{host}", 403),
        ("http://{host}/", 200),
        ("http://{host}/x", 403),
        ("null", 403),
        ("http://{host}.evil.example", 403),
        ("http://127.0.0.1", 403),  # another port is another site
        ("http://[::1", 403),
        ("", 403),
    ],
)
def test_cross_site_form_is_rejected(service: Running, origin: str, status: int) -> None:
    host = service.url.removeprefix("http://")
    headers = {"Origin": origin.format(host=host)}
    form = {"prompt": (None, "x")}  # a page may send a form to any site without preflight
    response = service.client.post("/v1/txt2img", files=form, headers=headers)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers


def test_allowed_origin_gets_cors_headers(redis_url: str) -> None:
    site = "https://shop.example"
    with running(redis_url, allowed_origins=site, auth="required", admin_key=ADMIN_KEY) as service:
        headers = {"Origin": site, "Access-Control-Request-Method": "POST"}
        preflight = service.client.options("/v1/txt2img", headers=headers)
        assert preflight.headers["access-control-allow-origin"] == site
        key = {"Origin": site, "X-API-Key": ADMIN_KEY}
        response = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=key)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == site
        other = service.client.get("/healthz", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


# ---- starting ----------------------------------------------------------------------------------


def started(redis_url: str, folder: Path, **environment: str) -> tuple[int, str]:
    """Run `darkroom api` until it exits or is ready; return its exit status and its output."""
    port = str(free_port())
    variables = {**os.environ, "REDIS_URL": redis_url, "PORT": port, **environment}
    variables["OBJECT_STORE_URL"] = "memory:///"
    output = folder / "output"
    with ForkedProgram("darkroom", "api", environment=variables, output=output) as program:
        while program.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                program.terminate()
                break
    return program.wait(), output.read_text()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"HOST": "0.0.0.0"}, "others can reach HOST 0.0.0.0"),
        ({"DARKROOM_AUTH": "required"}, "DARKROOM_AUTH is required"),
        ({"DARKROOM_AUTH": "required", "HOST": "0.0.0.0"}, "DARKROOM_AUTH is required"),
        ({"DARKROOM_ROOT_PATH": "/x"}, "clients come through a proxy (DARKROOM_ROOT_PATH set)"),
        (
            {"DARKROOM_TRUSTED_PROXIES": "127.0.0.1", "DARKROOM_PUBLIC_URL": "https://x.org"},
            "clients come through a proxy (DARKROOM_TRUSTED_PROXIES and DARKROOM_PUBLIC_URL set)",
        ),
    ],
)
def test_service_that_needs_keys_does_not_start_without_one(
    redis_url: str, settings: dict[str, str], reason: str, tmp_path: Path
) -> None:
    status, output = started(redis_url, tmp_path, **settings)
    assert status == 2
    assert output.startswith(f"darkroom: {reason}, and there is no API key")
    assert "darkroom keys create" in output
    assert output.count("\n") == 1


@pytest.mark.parametrize("settings", [{"DARKROOM_AUTH": "off"}, {"DARKROOM_ADMIN_KEY": ADMIN_KEY}])
def test_service_starts_with_a_key_or_with_auth_off(
    redis_url: str, settings: dict[str, str], tmp_path: Path
) -> None:
    assert started(redis_url, tmp_path, HOST="0.0.0.0", **settings)[0] in (0, -15)


def darkroom_keys(redis_url: str, *arguments: str) -> str:
    environment = {**os.environ, "REDIS_URL": redis_url, "COLUMNS": "200"}
    ran = run_forked("darkroom", "keys", *arguments, environment=environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_keys_command_creates_lists_and_revokes_keys(redis_url: str) -> None:
    token = darkroom_keys(redis_url, "create", "shop", "--scopes", "read", "--jobs", "2").strip()
    with running(redis_url, auth="required") as service:
        key = {"X-API-Key": token}
        assert service.client.get("/v1/models", headers=key).status_code == 200
        listed = darkroom_keys(redis_url, "list")
        assert "shop" in listed
        assert token.split("_", 2)[2] not in listed
        key_id = re.findall(r"\b[0-9a-f]{12}\b", listed)[0]
        darkroom_keys(redis_url, "revoke", key_id)
        while service.client.get("/v1/models", headers=key).status_code == 200:
            time.sleep(0.05)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_address_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    assert not ServiceSettings.model_validate({"host": host}).keys_needed


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.4", "::ffff:192.0.2.1", "myhost"])
def test_other_address_needs_a_key(host: str) -> None:
    assert ServiceSettings.model_validate({"host": host}).keys_needed


def test_admin_key_is_long_or_absent() -> None:
    assert ServiceSettings.model_validate({"admin_key": ""}).admin_key is None
    with pytest.raises(ValidationError, match="at least 32"):
        ServiceSettings.model_validate({"admin_key": "x" * 31})

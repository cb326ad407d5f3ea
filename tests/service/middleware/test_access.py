"""Access control: API keys, scopes, limits, hosts and origins, and jobs of other keys."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError
from starlette.datastructures import Headers

from protocol.auth.api_keys import ApiKey, KeyLimits, KeyRecords, Scope
from protocol.connection.redis_client import connect
from service.auth.api_keys import ApiKeyBackend
from service.middleware.public_paths import HEALTH, PAGES
from service.settings import ServiceSettings, is_loopback
from tests.service.conftest import Running, running, settings_for
from tests.support.redis_server import RedisServer, free_port

ADMIN_KEY = "an-admin-key-of-thirty-two-characters-or-more"
ASYNC = {"Prefer": "respond-async"}
JOB_ID = "0" * 32


@pytest.fixture
def secured(redis_url: str) -> Iterator[Running]:
    """Run a service that needs keys."""
    with running(redis_url, auth="required", admin_key=ADMIN_KEY) as service:
        yield service


def key_for(service: Running, *scopes: Scope, **limits: int) -> dict[str, str]:
    """Create a key and return its headers."""
    chosen = frozenset(scopes or (Scope.GENERATE, Scope.READ))
    token, record = ApiKey.create("a client", chosen, KeyLimits(**limits), 0.0)
    KeyRecords(service.worker.redis).add(record)
    time.sleep(0.3)  # unknown keys are read again after a quarter of a second at the earliest
    return {"Authorization": f"Bearer {token}"}


def submit(service: Running, key: dict[str, str], **fields: object) -> httpx.Response:
    return service.client.post("/v1/txt2img", json={"prompt": "x", **fields}, headers=key | ASYNC)


def every_route(service: Running) -> list[tuple[str, str]]:
    """Return method and path of every route, with the path parameters filled in."""
    paths = {
        context.path.format(job_id=JOB_ID, index=0, kind="depth", name="docs.js"): context.methods
        or set()
        for context in iter_route_contexts(service.app.routes)
        if context.path
    }
    return [(method, path) for path, methods in sorted(paths.items()) for method in sorted(methods)]


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
    assert submit(secured, key, width=128).json()["type"].endswith(":rate-limited")
    assert submit(secured, key).status_code == 202
    never = submit(secured, key, steps=9)
    assert (never.status_code, never.json()["field"]) == (422, "steps")
    assert never.json()["type"].endswith(":over-budget")


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
            ("localhost", 421),
        ):
            assert service.client.get("/v1/models", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://{host}", 200),
        ("https://evil.example", 403),
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


def started(redis_url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `darkroom api` until it exits or is ready."""
    command = [sys.executable, "-m", "darkroom", "api"]
    variables = {**os.environ, "REDIS_URL": redis_url, "PORT": str(free_port()), **environment}
    variables["OBJECT_STORE_URL"] = "memory:///"
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        url = f"http://127.0.0.1:{variables['PORT']}/healthz"
        while process.poll() is None:
            try:
                httpx.get(url)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                process.terminate()
                break
        out, error = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, out, error)


def test_service_without_keys_does_not_start_on_a_public_address(redis_url: str) -> None:
    refused = started(redis_url, HOST="0.0.0.0")
    assert refused.returncode == 1
    assert "darkroom keys create" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("settings", [{"DARKROOM_AUTH": "off"}, {"DARKROOM_ADMIN_KEY": ADMIN_KEY}])
def test_service_starts_with_a_key_or_with_auth_off(
    redis_url: str, settings: dict[str, str]
) -> None:
    assert started(redis_url, HOST="0.0.0.0", **settings).returncode in (0, -15)


def darkroom_keys(redis_url: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "darkroom", "keys", *arguments],
        env={**os.environ, "REDIS_URL": redis_url, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_keys_command_creates_lists_and_revokes_keys(redis_url: str) -> None:
    token = darkroom_keys(redis_url, "create", "shop", "--scopes", "read", "--jobs", "2").strip()
    with running(redis_url, auth="required") as service:
        key = {"X-API-Key": token}
        assert service.client.get("/v1/models", headers=key).status_code == 200
        listed = darkroom_keys(redis_url, "list")
        assert "shop" in listed
        assert token.rpartition("_")[2] not in listed
        key_id = re.findall(r"\b[0-9a-f]{12}\b", listed)[0]
        darkroom_keys(redis_url, "revoke", key_id)
        while service.client.get("/v1/models", headers=key).status_code == 200:
            time.sleep(0.05)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_address_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    assert not ServiceSettings.model_validate({"host": host}).keys_needed


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.0.4", "::ffff:192.0.2.1", "myhost"])
def test_other_address_needs_a_key(host: str) -> None:
    assert ServiceSettings.model_validate({"host": host}).keys_needed


def test_admin_key_is_long_or_absent() -> None:
    assert ServiceSettings.model_validate({"admin_key": ""}).admin_key is None
    with pytest.raises(ValidationError, match="at least 32"):
        ServiceSettings.model_validate({"admin_key": "x" * 31})

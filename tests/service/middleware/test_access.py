"""Who gets in: keys, scopes and limits, hosts and origins; and what other keys get to see."""

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
def closed(redis_url: str) -> Iterator[Running]:
    """A service that needs keys."""
    with running(redis_url, auth="required", admin_key=ADMIN_KEY) as service:
        yield service


def key_for(service: Running, *scopes: Scope, **limits: int) -> dict[str, str]:
    """The headers of a new key."""
    chosen = frozenset(scopes or (Scope.GENERATE, Scope.READ))
    token, record = ApiKey.create("a client", chosen, KeyLimits(**limits))
    KeyRecords(service.worker.redis).add(record)
    time.sleep(0.3)  # a door that has just looked does not look again at once
    return {"Authorization": f"Bearer {token}"}


def submit(service: Running, key: dict[str, str], **fields: object) -> httpx.Response:
    return service.client.post("/v1/txt2img", json={"prompt": "x", **fields}, headers=key | ASYNC)


def every_route(service: Running) -> list[tuple[str, str]]:
    """Method and path of all that the application answers to, parameters filled in."""
    paths = {
        context.path.format(job_id=JOB_ID, index=0, kind="depth", name="docs.js"): context.methods
        or set()
        for context in iter_route_contexts(service.app.routes)
        if context.path
    }
    return [(method, path) for path, methods in sorted(paths.items()) for method in sorted(methods)]


def test_every_route_is_closed_but_health_and_pages(closed: Running) -> None:
    routes = every_route(closed)
    assert len(routes) >= 15
    for method, path in routes:
        status = closed.client.request(method, path).status_code
        if path in HEALTH | PAGES:
            assert status in (200, 405), (method, path)
        else:
            assert status == 401, (method, path)


@pytest.mark.parametrize(
    "path", ["/v1/nowhere", "/healthz/x", "/healthz/", "/docs/", "/v1/models/"]
)
def test_what_does_not_exist_is_closed_too(closed: Running, path: str) -> None:
    assert closed.client.get(path).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ADMIN_KEY}"},
        {"authorization": f"bearer  {ADMIN_KEY}"},
        {"X-API-Key": ADMIN_KEY},
    ],
)
def test_a_key_opens(closed: Running, headers: dict[str, str]) -> None:
    assert closed.client.get("/v1/models", headers=headers).status_code == 200
    assert closed.client.get("/metrics", headers=headers).status_code == 200


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
def test_what_is_no_key_does_not(closed: Running, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = closed.client.get("/v1/models", headers=raw)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"].endswith(":unauthorized")


def test_a_key_in_the_address_does_not_open(closed: Running) -> None:
    assert closed.client.get(f"/v1/models?api_key={ADMIN_KEY}").status_code == 401


def test_nothing_of_a_body_is_read_without_a_key(closed: Running) -> None:
    """The answer comes while the client has sent a tenth of what it announced."""

    def body() -> Iterator[bytes]:
        yield b"x" * 1000
        raise AssertionError("more was asked for")

    with pytest.raises(AssertionError, match="more was asked for"):
        closed.client.post("/v1/txt2img", content=body(), headers={"Content-Length": "10000"})
    with closed.client.stream("POST", "/v1/txt2img", content=b"{") as answer:
        assert answer.status_code == 401


def test_scopes_bound_what_a_key_does(closed: Running) -> None:
    reader, writer = key_for(closed, Scope.READ), key_for(closed, Scope.GENERATE)
    watcher = key_for(closed, Scope.METRICS)
    refused = submit(closed, reader)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:darkroom:problem:forbidden")
    assert submit(closed, writer).status_code == 202
    for key, path, status in (
        (reader, "/v1/models", 200),
        (reader, "/metrics", 403),
        (writer, "/v1/models", 403),
        (watcher, "/metrics", 200),
        (watcher, "/v1/models", 403),
    ):
        assert closed.client.get(path, headers=key).status_code == status, path
    assert closed.client.delete(f"/v1/jobs/{JOB_ID}", headers=reader).status_code == 403


def test_a_job_is_there_for_its_key_only(closed: Running) -> None:
    mine, anothers = key_for(closed), key_for(closed)
    admin = {"X-API-Key": ADMIN_KEY}
    path = submit(closed, mine).headers["location"]
    while closed.client.get(path, headers=mine).json()["state"] != "finished":
        time.sleep(0.01)
    for below in ("", "/events", "/images/0"):
        assert closed.client.get(path + below, headers=mine).status_code == 200
        assert closed.client.get(path + below, headers=admin).status_code == 200
        strange = closed.client.get(path + below, headers=anothers)
        nothing = closed.client.get(f"/v1/jobs/{JOB_ID}{below}", headers=anothers)
        assert strange.status_code == nothing.status_code == 404
        assert strange.json()["type"] == nothing.json()["type"]
    assert closed.client.delete(path, headers=anothers).status_code == 404


def test_another_key_cannot_cancel(closed: Running) -> None:
    mine, anothers = key_for(closed), key_for(closed)
    closed.worker.hold()
    path = submit(closed, mine).headers["location"]
    assert closed.client.delete(path, headers=anothers).status_code == 404
    assert closed.client.get(path, headers=mine).json()["state"] == "queued"
    assert closed.client.delete(path, headers=mine).json()["state"] == "cancelled"


def test_requests_per_minute(closed: Running) -> None:
    key = key_for(closed, requests_per_minute=3)
    answers = [closed.client.get("/v1/models", headers=key) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 20
    assert answers[-1].json()["type"].endswith(":rate-limited")
    assert closed.client.get("/v1/models", headers=key_for(closed)).status_code == 200


def test_pixel_steps_per_minute(closed: Running) -> None:
    key = key_for(closed, pixel_steps_per_minute=64 * 64 * 4 * 2)
    assert submit(closed, key).status_code == 202
    assert submit(closed, key, width=128).json()["type"].endswith(":rate-limited")
    assert submit(closed, key).status_code == 202
    never = submit(closed, key, steps=9)
    assert (never.status_code, never.json()["field"]) == (422, "steps")
    assert never.json()["type"].endswith(":over-budget")


def test_jobs_at_once(closed: Running) -> None:
    key = key_for(closed, jobs=2)
    closed.worker.hold()
    paths = [submit(closed, key).headers["location"] for _ in range(2)]
    refused = submit(closed, key)
    assert (refused.status_code, refused.json()["type"]) == (
        429,
        "urn:darkroom:problem:too-many-jobs",
    )
    assert int(refused.headers["retry-after"]) > 0
    closed.client.delete(paths[0], headers=key)
    assert submit(closed, key).status_code == 202
    assert submit(closed, key_for(closed)).status_code == 202


def test_a_revoked_key_opens_no_more(closed: Running) -> None:
    key = key_for(closed)
    assert closed.client.get("/v1/models", headers=key).status_code == 200
    records = KeyRecords(closed.worker.redis)
    (key_id,) = records.all()
    records.revoke(key_id)
    while closed.client.get("/v1/models", headers=key).status_code == 200:
        time.sleep(0.05)
    assert closed.client.get("/v1/models", headers=key).status_code == 401


async def test_while_redis_is_away_known_keys_open_and_others_wait() -> None:
    token, record = ApiKey.create("a client", frozenset({Scope.READ}), KeyLimits())
    with RedisServer() as server, connect(server.url) as redis:
        records = KeyRecords(redis)
        records.add(record)
        ring = ApiKeyBackend(records, settings_for(server.url))
        shown = Headers({"x-api-key": token})
        assert (await ring.visitor(shown)).client == record.id
        server.stop()
        time.sleep(2.1)  # what was read is no longer fresh
        assert (await ring.visitor(shown)).client == record.id


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
def test_without_keys_only_our_own_names_are_answered(
    service: Running, host: str, status: int
) -> None:
    answer = service.client.get("/v1/models", headers={"Host": host})
    assert answer.status_code == status, answer.text
    assert service.client.get("/healthz", headers={"Host": host}).status_code == 200


def test_names_may_be_set(redis_url: str) -> None:
    names = "pictures.example.org, *.example.net"
    with running(redis_url, allowed_hosts=names) as service:
        for host, status in (
            ("Pictures.Example.org:443", 200),
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
def test_pages_of_other_sites_change_nothing(service: Running, origin: str, status: int) -> None:
    host = service.url.removeprefix("http://")
    headers = {"Origin": origin.format(host=host)}
    form = {"prompt": (None, "x")}  # what any page may send without asking
    answer = service.client.post("/v1/txt2img", files=form, headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_sites_may_be_let_in(redis_url: str) -> None:
    site = "https://shop.example"
    with running(redis_url, allowed_origins=site, auth="required", admin_key=ADMIN_KEY) as service:
        asked = {"Origin": site, "Access-Control-Request-Method": "POST"}
        preflight = service.client.options("/v1/txt2img", headers=asked)
        assert preflight.headers["access-control-allow-origin"] == site
        key = {"Origin": site, "X-API-Key": ADMIN_KEY}
        answer = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=key)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == site
        other = service.client.get("/healthz", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


# ---- starting ----------------------------------------------------------------------------------


def started(redis_url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`darkroom api`, for as long as it takes to refuse, or two seconds."""
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


def test_it_does_not_start_open_where_others_reach_it(redis_url: str) -> None:
    refused = started(redis_url, HOST="0.0.0.0")
    assert refused.returncode == 1
    assert "darkroom keys create" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("settings", [{"DARKROOM_AUTH": "off"}, {"DARKROOM_ADMIN_KEY": ADMIN_KEY}])
def test_it_starts_with_a_key_or_if_told_to(redis_url: str, settings: dict[str, str]) -> None:
    assert started(redis_url, HOST="0.0.0.0", **settings).returncode in (0, -15)


def darkroom_keys(redis_url: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "darkroom", "keys", *arguments],
        env={**os.environ, "REDIS_URL": redis_url, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_an_operator_makes_lists_and_revokes_keys(redis_url: str) -> None:
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
def test_on_a_loopback_no_key_is_needed(host: str) -> None:
    assert is_loopback(host)
    assert not ServiceSettings.model_validate({"host": host}).keys_needed


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.0.4", "::ffff:192.0.2.1", "myhost"])
def test_elsewhere_it_is(host: str) -> None:
    assert ServiceSettings.model_validate({"host": host}).keys_needed


def test_an_admin_key_is_long_or_not_there() -> None:
    assert ServiceSettings.model_validate({"admin_key": ""}).admin_key is None
    with pytest.raises(ValidationError, match="at least 32"):
        ServiceSettings.model_validate({"admin_key": "x" * 31})

"""The service behind proxies: addresses in answers, keys, origins and clients."""

from collections.abc import Iterator

import httpx
import pytest

from service.settings import ServiceSettings
from tests.service.conftest import Running, running

ADMIN_KEY = "an-admin-key-of-thirty-two-characters-or-more"
KEY = {"X-API-Key": ADMIN_KEY}
ASYNC = {"Prefer": "respond-async"}
NGINX = {
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "images.example.org",
    "X-Forwarded-Prefix": "/darkroom",
}
FORWARDED = {
    "Forwarded": "for=192.0.2.1;proto=https;host=images.example.org",
    "X-Forwarded-Prefix": "/darkroom",
}


@pytest.fixture
def proxied(redis_url: str) -> Iterator[Running]:
    """Run a service with trusted proxies on this machine."""
    with running(redis_url, trusted_proxies="127.0.0.1", admin_key=ADMIN_KEY) as service:
        yield service


def submit(client: httpx.Client, headers: dict[str, str], path: str = "") -> httpx.Response:
    return client.post(f"{path}/v1/txt2img", json={"prompt": "x"}, headers=KEY | headers)


def image_url(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    url: str = response.json()["images"][0]["url"]
    return url


def url_for(client: httpx.Client, headers: dict[str, str], path: str = "") -> str:
    """Return the URL of an image that is handed out, without the id of its job and signature."""
    body = {"prompt": "x", "response": "url"}
    response = client.post(f"{path}/v1/txt2img", json=body, headers=KEY | headers)
    url, _, signature = image_url(response).partition("?")
    assert "signature=" in signature
    return url.replace(response.json()["id"], "ID")


@pytest.mark.parametrize("headers", [NGINX, FORWARDED], ids=["X-Forwarded", "Forwarded"])
@pytest.mark.parametrize("path", ["", "/darkroom"], ids=["removed", "left"])
def test_addresses_are_those_of_the_client(
    proxied: Running, headers: dict[str, str], path: str
) -> None:
    """A proxy may remove the prefix or leave it."""
    client = proxied.client
    url = "https://images.example.org/darkroom/v1/jobs/ID/images/0.png"
    assert url_for(client, headers, path) == url
    accepted = submit(client, headers | ASYNC, path)
    assert accepted.headers["location"] == f"/darkroom/v1/jobs/{accepted.json()['id']}"
    api = client.get(f"{path}/openapi.json", headers=headers).json()
    assert api["servers"] == [{"url": "/darkroom"}]
    for page in ("/", "/docs"):
        text = client.get(path + page, headers=headers).text
        assert 'src="/darkroom/pages/' in text
        assert '="/pages/' not in text
        assert "{root}" not in text
    assert client.get(f"{path}/v1/models", headers=headers).status_code == 401


def test_problem_names_the_job_below_the_prefix(redis_url: str) -> None:
    settings = {"root_path": "/darkroom", "admin_key": ADMIN_KEY, "max_wait_s": 0.1}
    with running(redis_url, **settings) as service:
        service.worker.hold()
        late = submit(service.client, {})
        assert late.status_code == 504
        assert late.json()["job"] == late.headers["location"]
        assert late.headers["location"].startswith("/darkroom/v1/jobs/")


def test_headers_of_others_are_ignored(redis_url: str) -> None:
    with running(redis_url, trusted_proxies="192.0.2.0/24", admin_key=ADMIN_KEY) as service:
        for headers in (NGINX, FORWARDED):
            assert url_for(service.client, headers).startswith(f"{service.url}/v1/jobs/")
        assert service.client.get("/darkroom/v1/models", headers=KEY | NGINX).status_code == 404
        assert '="/pages/' in service.client.get("/", headers=NGINX).text


def test_settings_win_over_headers(redis_url: str) -> None:
    settings = {"root_path": "/studio", "trusted_proxies": "127.0.0.1", "admin_key": ADMIN_KEY}
    with running(redis_url, **settings) as service:
        url = url_for(service.client, NGINX, "/studio")
        assert url.startswith("https://images.example.org/studio/v1/jobs/")
        for path in ("/studio", "/studio/", "/"):
            assert 'src="/studio/pages/' in service.client.get(path).text
        assert service.client.get("/studios/v1/models", headers=KEY).status_code == 404


def test_public_url_begins_all_addresses(redis_url: str) -> None:
    settings = {"public_url": "https://images.example.org/darkroom/", "admin_key": ADMIN_KEY}
    with running(redis_url, **settings) as service:
        url = url_for(service.client, {"Host": "upstream:8000"}, "/darkroom")
        assert url == "https://images.example.org/darkroom/v1/jobs/ID/images/0.png"
        location = submit(service.client, ASYNC).headers["location"]
        assert location.startswith("/darkroom/v1/jobs/")
        servers = service.client.get("/openapi.json").json()["servers"]
        assert servers == [{"url": "https://images.example.org/darkroom"}]
        origin = {"Origin": "https://images.example.org", "Host": "upstream:8000"}
        assert submit(service.client, origin).status_code == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"trusted_proxies": "127.0.0.1"},
        {"root_path": "/darkroom"},
        {"public_url": "https://images.example.org"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_declared_proxy_needs_keys(settings: dict[str, str], redis_url: str) -> None:
    with running(redis_url, admin_key=ADMIN_KEY, **settings) as service:
        assert service.client.get("/v1/models").status_code == 401
        assert service.client.get("/v1/models", headers=KEY).status_code == 200
    assert not ServiceSettings.model_validate(settings | {"auth": "off"}).keys_needed


@pytest.mark.parametrize(
    ("scheme", "origin", "status"),
    [
        ("https", "https://images.example.org", 200),
        ("https", "https://images.example.org:443", 200),
        ("https", "HTTPS://Images.Example.ORG", 200),
        ("https", "http://images.example.org", 403),
        ("https", "https://images.example.org:80", 403),
        ("http", "http://images.example.org:80", 200),
        ("http", "https://images.example.org", 403),
        ("https", "https://example.org", 403),
        ("https", "null", 403),
    ],
)
def test_origin_is_that_of_the_client(
    proxied: Running, scheme: str, origin: str, status: int
) -> None:
    headers = NGINX | {"X-Forwarded-Proto": scheme, "Origin": origin}
    response = submit(proxied.client, headers)
    assert response.status_code == status
    assert status == 200 or "DARKROOM_ALLOWED_ORIGINS" in response.json()["detail"]


def test_origin_in_another_script(redis_url: str) -> None:
    settings = {"allowed_origins": "https://Bücher.example/", "admin_key": ADMIN_KEY}
    with running(redis_url, **settings) as service:
        for origin in (b"https://xn--bcher-kva.example", "https://bücher.example".encode()):
            response = service.client.post(
                "/v1/txt2img", json={"prompt": "x"}, headers=[(b"origin", origin)]
            )
            assert response.status_code == 200
        preflight = {
            "Origin": "https://xn--bcher-kva.example",
            "Access-Control-Request-Method": "POST",
        }
        response = service.client.options("/v1/txt2img", headers=preflight)
        assert response.headers["access-control-allow-origin"] == preflight["Origin"]


def test_limits_are_those_of_the_client(redis_url: str) -> None:
    """Without keys a client is known by its address, not by that of its proxy."""
    settings = {"trusted_proxies": "127.0.0.1", "auth": "off", "max_queue_per_client": 1}
    with running(redis_url, **settings) as service:
        service.worker.hold()
        for client, status in (("192.0.2.1", 202), ("192.0.2.1", 429), ("192.0.2.2", 202)):
            headers = {"X-Forwarded-For": f"192.0.2.2, {client}"} | ASYNC
            assert submit(service.client, headers).status_code == status


def test_host_of_the_client_is_checked(redis_url: str) -> None:
    settings = {"trusted_proxies": "127.0.0.1", "auth": "off", "allowed_hosts": "a.example"}
    with running(redis_url, **settings) as service:
        for host, status in (("A.example", 200), ("evil.example", 421), ("a.example/", 421)):
            response = service.client.get("/v1/models", headers={"X-Forwarded-Host": host})
            assert response.status_code == status
            assert status == 200 or "DARKROOM_ALLOWED_HOSTS" in response.json()["detail"]


MALFORMED = (
    *("", ",", ", ,", '"', "\\", ";", "=", "\x80", "a b", "[", "]:", "[::1", "999.9.9.9:x", "::%x"),
    *("x" * 5000, "," * 5000, "//evil.example", "https", "http,", "for=", 'for="'),
)


@pytest.mark.parametrize("name", [*NGINX, "Forwarded"])
def test_malformed_headers_give_no_server_error(proxied: Running, name: str) -> None:
    for value in MALFORMED:
        raw = {**NGINX, **KEY, name: value} if name != "Forwarded" else {**KEY, name: value}
        headers = [(key.encode(), text.encode("latin-1")) for key, text in raw.items()]
        for path in ("/", "/v1/models"):
            response = proxied.client.get(path, headers=headers)
            assert response.status_code in (200, 421), (name, value)

"""The nginx recipe of docs/deployment.md, run by nginx in front of a service."""

import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import MAX_BODY_BYTES, Running, running
from tests.support.certificates import certificates
from tests.support.imports import ROOT
from tests.support.redis_server import RedisServer, free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (.ci/programs installs it)"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate"),
]
PAGE = ROOT / "docs/deployment.md"
NAME = "images.example.org"
ADMIN_KEY = "an-admin-key-of-thirty-two-characters-or-more"
# What the distribution's nginx.conf has around the files of conf.d.
MAIN = """
daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    {server}
}}
"""


def block(language: str, mark: str) -> str:
    """Return the block of code in the page that contains `mark`."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    [found] = [text for text in blocks if mark in text]
    return found


def settings() -> dict[str, str]:
    """Return the settings of the page, as keyword arguments of the settings class."""
    lines = block("sh", "DARKROOM_TRUSTED_PROXIES").split()
    pairs = [line.removeprefix("DARKROOM_").split("=") for line in lines]
    return {name.lower(): value for name, value in pairs}


@dataclass(frozen=True)
class Proxied:
    """A service behind nginx; `client` calls nginx, by its name."""

    service: Running
    client: httpx.Client
    site: str


@contextmanager
def nginx(folder: Path, service: Running) -> Iterator[Proxied]:
    """Run nginx with the recipe; only ports, paths and the limit of bodies are changed."""
    certificate, secret = certificates(folder, NAME)
    port = free_port()
    server = block("nginx", "proxy_pass")
    for written, here in (
        ("127.0.0.1:8000", service.url.removeprefix("http://")),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        (f"/etc/ssl/{NAME}.crt", str(certificate)),
        (f"/etc/ssl/{NAME}.key", str(secret)),
        ("client_max_body_size 32m", f"client_max_body_size {MAX_BODY_BYTES}"),
    ):
        assert server.count(written) == 1
        server = server.replace(written, here)
    config = folder / "nginx.conf"
    config.write_text(MAIN.format(folder=folder, server=server))
    site = f"https://{NAME}:{port}"
    context = ssl.create_default_context(cafile=str(certificate))
    headers = {"Host": f"{NAME}:{port}"}
    with (
        subprocess.Popen([str(NGINX), "-p", str(folder), "-c", str(config)]) as process,
        httpx.Client(
            base_url=f"https://127.0.0.1:{port}", verify=context, headers=headers, timeout=30
        ) as client,
    ):
        try:
            while not answers(client):
                assert process.poll() is None, "nginx has ended"
                time.sleep(0.02)
            yield Proxied(service, client, site)
        finally:
            process.terminate()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/darkroom/healthz").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def proxied(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("nginx")
    with (
        running(redis_server.url, admin_key=ADMIN_KEY, **settings()) as service,
        nginx(folder, service) as proxied,
    ):
        yield proxied


KEY = {"X-API-Key": ADMIN_KEY}
FORGED = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-For": "203.0.113.9",
    "Forwarded": "for=203.0.113.9;host=evil.example;proto=http",
}


def submit(proxied: Proxied, **headers: str) -> httpx.Response:
    body = {"prompt": "x", "response": "url"}
    return proxied.client.post("/darkroom/v1/txt2img", json=body, headers=KEY | headers)


@pytest.mark.parametrize("forged", [{}, FORGED], ids=["", "forged"])
def test_addresses_lead_back_through_nginx(proxied: Proxied, forged: dict[str, str]) -> None:
    site, client = proxied.site, proxied.client
    accepted = submit(proxied, Prefer="respond-async", **forged)
    assert accepted.status_code == 202
    location = accepted.headers["location"]
    assert location == f"/darkroom/v1/jobs/{accepted.json()['id']}"
    with client.stream("GET", f"{location}/events", headers=KEY | forged) as events:
        assert "event: finished" in events.read().decode()
    [image] = client.get(location, headers=KEY | forged).json()["result"]["images"]
    assert image["url"].partition("?")[0] == f"{site}{location}/images/0.png"
    file = client.get(image["url"].removeprefix(site), headers=KEY)
    assert file.headers["content-type"] == "image/png"
    known = KEY | {"If-None-Match": file.headers["etag"]}
    assert client.get(f"{location}/images/0.png", headers=known).status_code == 304


def test_pages_load_all_their_files(proxied: Proxied) -> None:
    client = proxied.client
    assert client.get("/darkroom").headers["location"].endswith("/darkroom/")
    for page in ("/darkroom/", "/darkroom/docs"):
        files = re.findall(r'(?:src|href)="(/[^"]*)"', client.get(page).text)
        assert len(files) >= 3
        for file in files:
            assert client.get(file).status_code == 200, file
    assert client.get("/darkroom/openapi.json").json()["servers"] == [{"url": "/darkroom"}]


def test_clients_of_the_proxy_need_a_key(proxied: Proxied) -> None:
    assert proxied.client.get("/darkroom/v1/models").status_code == 401
    assert proxied.client.get("/darkroom/v1/models", headers=FORGED).status_code == 401
    assert proxied.client.get("/darkroom/metrics", headers=KEY).status_code == 404


def test_origin_is_that_of_the_site(proxied: Proxied) -> None:
    assert submit(proxied, Origin=proxied.site).status_code == 200
    for origin in (
        "https://evil.example",
        proxied.site.replace("https", "http"),
        proxied.service.url,
    ):
        assert submit(proxied, Origin=origin).status_code == 403


def test_events_arrive_while_the_job_waits(proxied: Proxied) -> None:
    proxied.service.worker.hold()
    location = submit(proxied, Prefer="respond-async").headers["location"]
    with proxied.client.stream("GET", f"{location}/events", headers=KEY) as events:
        first = next(events.iter_text())
        assert "event: queued" in first
        proxied.service.worker.release()


def test_large_body_is_refused_with_a_problem_or_by_nginx(proxied: Proxied) -> None:
    body = b" " * (MAX_BODY_BYTES + 1)
    headers = KEY | {"Content-Type": "application/json"}
    response = proxied.client.post("/darkroom/v1/txt2img", content=body, headers=headers)
    assert response.status_code == 413

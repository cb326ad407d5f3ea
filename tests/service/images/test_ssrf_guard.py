"""SSRF guard: URLs of clients reach public addresses only, never the listeners of these tests."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidRequest
from service.images.ssrf_guard import BOUND, SsrfGuard
from service.outbound import Address, is_public, resolve
from tests.service.conftest import Running, running
from tests.service.sample_images import gradient, in_base64, packed

IMAGE = packed(gradient())
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(IMAGE), IMAGE)


class Listener:
    """A web server on one loopback address that counts connections and keeps request heads."""

    def __init__(self, host: str, port: int = 0, response: bytes = OK) -> None:
        self.response = response
        self.connections = 0
        self.heads: list[bytes] = []
        self._server = socket.create_server((host, port))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._server.accept()
            with connection:
                head = connection.recv(65536)
                if head == b"stop":
                    return
                self.connections += 1
                self.heads.append(head)
                try:
                    connection.sendall(self.response)
                except OSError:
                    continue  # the guard closed the connection

    def close(self) -> None:
        with socket.create_connection(self._server.getsockname()) as connection:
            connection.sendall(b"stop")
        self._thread.join()
        self._server.close()


@contextmanager
def listening(host: str, port: int = 0, response: bytes = OK) -> Iterator[Listener]:
    listener = Listener(host, port, response)
    try:
        yield listener
    finally:
        listener.close()


# Spellings of this machine, private networks and a cloud's metadata; {port} is a listener's.
SPELLINGS = [
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/x.png?y",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://x.localhost:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://127.9.9.9:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0x7f.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::1]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[fc00::1]:{port}/",
    "http://10.0.0.1:{port}/",
    "http://172.16.0.1:{port}/",
    "http://192.168.0.1:{port}/",
    "http://169.254.169.254:{port}/latest/meta-data/",
    "http://100.64.0.1:{port}/",
    "http://198.18.0.1:{port}/",
    "http://224.0.0.1:{port}/",
    "http://255.255.255.255:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://93.184.216.34@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@93.184.216.34/",
    "http://93.184.216.34#@127.0.0.1:{port}/",
    "http://93.184.216.34\\@127.0.0.1:{port}/",
    "http:\\\\127.0.0.1:{port}\\",
    "http:/127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1\t:{port}/",
    "http://127.0.0.1:{port}/\r\nHost: x",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://ⓛocalhost:{port}/",
    "http://127.0.0.1%00:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "HTTP://127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_x",
    "file:///etc/passwd",
    "data:image/png;base64,xyz",
    "unix:///tmp/redis.sock",
    "redis://127.0.0.1:{port}/",
    "",
    "http://",
    "http:///x",
]


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    with listening("0.0.0.0") as listener:
        yield listener


def unlimited(size: int) -> None:
    """Accept any number of bytes."""


async def fetched(guard: SsrfGuard, url: str) -> bytes:
    return await guard.fetch("image_url", url, unlimited)


async def rejected(guard: SsrfGuard, url: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        await guard.fetch("image_url", url, unlimited)
    assert raised.value.problem == "cannot-fetch"
    assert raised.value.bound == BOUND
    return raised.value


def test_spellings_are_many() -> None:
    assert len(set(SPELLINGS)) >= 40


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_reaches_a_private_address(listener: Listener, spelling: str) -> None:
    guard = SsrfGuard(10**6, 5.0, ports=frozenset({listener.port, 80, 443}))
    await rejected(guard, spelling.format(port=listener.port))
    assert listener.connections == 0


async def test_listener_is_reachable_if_allowed(listener: Listener) -> None:
    """Shows that the test above would see a connection."""
    guard = SsrfGuard(10**6, 5.0, allowed=lambda address: True, ports=frozenset({listener.port}))
    assert await fetched(guard, f"http://127.0.0.1:{listener.port}/") == IMAGE
    assert listener.connections == 1
    listener.connections = 0


PUBLIC, PRIVATE = ipaddress.ip_address("127.0.0.2"), ipaddress.ip_address("127.0.0.3")


def only_public(address: Address) -> bool:
    """Treat one loopback address as public and another as private."""
    return address == PUBLIC


@pytest.fixture
def listeners() -> Iterator[tuple[Listener, Listener]]:
    with listening(str(PUBLIC)) as public, listening(str(PRIVATE), public.port) as private:
        yield public, private


async def test_name_is_resolved_once_and_that_address_used(
    listeners: tuple[Listener, Listener],
) -> None:
    """The name server gives a public address first and then private ones (DNS rebinding)."""
    public, private = listeners
    resolved: list[str] = []

    async def rebinding(name: str, port: int) -> list[str]:
        resolved.append(name)
        return [str(PUBLIC if len(resolved) == 1 else PRIVATE)]

    guard = SsrfGuard(10**6, 5.0, rebinding, only_public, frozenset({public.port}))
    assert await fetched(guard, f"http://images.example:{public.port}/a") == IMAGE
    assert resolved == ["images.example"]
    assert (public.connections, private.connections) == (1, 0)
    assert b"\r\nHost: images.example:%d\r\n" % public.port in public.heads[0]
    await rejected(guard, f"http://images.example:{public.port}/a")
    assert private.connections == 0


async def test_name_with_one_private_address_is_rejected(
    listeners: tuple[Listener, Listener],
) -> None:
    async def mixed(name: str, port: int) -> list[str]:
        return [str(PUBLIC), str(PRIVATE)]

    public, private = listeners
    await rejected(
        SsrfGuard(10**6, 5.0, mixed, only_public, frozenset({public.port})),
        f"http://images.example:{public.port}/",
    )
    assert (public.connections, private.connections) == (0, 0)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.3:{port}/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 2_000_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"220 smtp ready\r\n",
        b"",
    ],
    ids=["redirect", "compressed", "long", "endless", "missing", "cut short", "no HTTP", "silent"],
)
async def test_unexpected_response_is_rejected(
    listeners: tuple[Listener, Listener], response: bytes
) -> None:
    public, private = listeners
    public.response = response.replace(b"{port}", b"%d" % public.port)
    guard = SsrfGuard(10**6, 5.0, resolve, only_public, frozenset({public.port}))
    await rejected(guard, f"http://{PUBLIC}:{public.port}/")
    assert (public.connections, private.connections) == (1, 0)


async def test_other_port_is_not_connected(listeners: tuple[Listener, Listener]) -> None:
    public, _ = listeners
    await rejected(SsrfGuard(10**6, 5.0, resolve, only_public), f"http://{PUBLIC}:{public.port}/")
    assert public.connections == 0


async def test_fetch_times_out(listeners: tuple[Listener, Listener]) -> None:
    async def never(name: str, port: int) -> list[str]:
        await asyncio.sleep(3600)
        return []

    await rejected(SsrfGuard(10**6, 0.05, never), "http://images.example/")


@given(st.text() | st.integers() | st.none() | st.lists(st.text(), max_size=2))
async def test_invalid_url_is_rejected(url: object) -> None:
    async def nowhere(name: str, port: int) -> list[str]:
        return []

    assert (await rejected(SsrfGuard(1, 1.0, nowhere), url)).field == "image_url"


@given(st.ip_addresses(v=4))
def test_ipv4_address_embedded_in_ipv6_is_not_public(address: ipaddress.IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "::", "64:ff9b::", "2002::"):
        shift = 80 if prefix == "2002::" else 0
        number = int(ipaddress.IPv6Address(prefix)) | int(address) << shift
        assert not is_public(ipaddress.IPv6Address(number))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450::1"])
def test_internet_address_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


# ---- through the API ---------------------------------------------------------------------------


def test_image_urls_are_rejected_by_default(service: Running, listener: Listener) -> None:
    for field in ("image_url", "mask_url"):
        fields = {"prompt": "x", field: f"http://127.0.0.1:{listener.port}/"}
        response = service.client.post("/v1/img2img", json=fields)
        assert (response.status_code, response.json()["field"]) == (422, field)
        assert "not taken here" in response.json()["detail"]
    assert listener.connections == 0


def test_image_urls_use_the_guard(redis_url: str, listener: Listener) -> None:
    with running(redis_url, image_urls=True) as service:
        url = f"http://127.0.0.1:{listener.port}/"
        response = service.client.post("/v1/img2img", json={"prompt": "x", "image_url": url})
        assert response.json()["type"].endswith(":cannot-fetch")
        assert response.json()["field"] == "image_url"
        both = {"prompt": "x", "image": in_base64(IMAGE), "image_url": url}
        twice = service.client.post("/v1/img2img", json=both)
        assert twice.json()["type"].endswith(":given-twice")
    assert listener.connections == 0


def test_fetched_image_is_used(redis_url: str, listener: Listener) -> None:
    guard = SsrfGuard(10**6, 5.0, allowed=lambda _: True, ports=frozenset({listener.port}))
    with running(redis_url, image_urls=True) as service:
        state = service.app.state
        state.services = replace(state.services, ssrf_guard=guard)
        fields = {"prompt": "x", "image_url": f"http://127.0.0.1:{listener.port}/a.png"}
        response = service.client.post("/v1/img2img", json=fields)
        assert response.status_code == 200, response.text
        assert service.worker.seen[0].image_key
    listener.connections = 0

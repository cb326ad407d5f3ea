"""Addresses that clients give lead to the open internet or nowhere: a listener here sees nobody."""

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
from service.images.image_urls import Fetching
from service.images.ssrf_guard import BOUND, Address, Guard, is_public, resolve
from tests.service.conftest import Running, running
from tests.service.sample_images import gradient, in_base64, packed

PICTURE = packed(gradient())
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(PICTURE), PICTURE)


class Listener:
    """A web server on one loopback address: counts connections, keeps heads, answers one thing."""

    def __init__(self, host: str, port: int = 0, answer: bytes = OK) -> None:
        self.answer = answer
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
                    connection.sendall(self.answer)
                except OSError:
                    continue  # the guard had enough

    def close(self) -> None:
        with socket.create_connection(self._server.getsockname()) as connection:
            connection.sendall(b"stop")
        self._thread.join()
        self._server.close()


@contextmanager
def listening(host: str, port: int = 0, answer: bytes = OK) -> Iterator[Listener]:
    listener = Listener(host, port, answer)
    try:
        yield listener
    finally:
        listener.close()


# Ways to write this machine, its neighbours and a cloud's metadata; {port} is a listener's.
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


def free(size: int) -> None:
    """There is room for everything."""


async def fetched(guard: Guard, url: str) -> bytes:
    return await guard.fetch("image_url", url, free)


async def refused(guard: Guard, url: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refusal:
        await guard.fetch("image_url", url, free)
    assert refusal.value.problem == "cannot-fetch"
    assert refusal.value.bound == BOUND
    return refusal.value


def test_there_are_many_spellings() -> None:
    assert len(set(SPELLINGS)) >= 40


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_leads_back_here(listener: Listener, spelling: str) -> None:
    guard = Guard(10**6, 5.0, ports=frozenset({listener.port, 80, 443}))
    await refused(guard, spelling.format(port=listener.port))
    assert listener.connections == 0


async def test_the_same_listener_can_be_reached_where_that_is_allowed(listener: Listener) -> None:
    """Else the test above would prove nothing."""
    guard = Guard(10**6, 5.0, allowed=lambda address: True, ports=frozenset({listener.port}))
    assert await fetched(guard, f"http://127.0.0.1:{listener.port}/") == PICTURE
    assert listener.connections == 1
    listener.connections = 0


PUBLIC, PRIVATE = ipaddress.ip_address("127.0.0.2"), ipaddress.ip_address("127.0.0.3")


def only_public(address: Address) -> bool:
    """Two loopback addresses play the open internet and the network behind us."""
    return address == PUBLIC


@pytest.fixture
def places() -> Iterator[tuple[Listener, Listener]]:
    with listening(str(PUBLIC)) as public, listening(str(PRIVATE), public.port) as private:
        yield public, private


async def test_a_name_is_asked_for_once_and_that_answer_dialled(
    places: tuple[Listener, Listener],
) -> None:
    """A name server that says "public" first and "private" ever after (DNS rebinding)."""
    public, private = places
    asked: list[str] = []

    async def rebinding(name: str, port: int) -> list[str]:
        asked.append(name)
        return [str(PUBLIC if len(asked) == 1 else PRIVATE)]

    guard = Guard(10**6, 5.0, rebinding, only_public, frozenset({public.port}))
    assert await fetched(guard, f"http://pictures.example:{public.port}/a") == PICTURE
    assert asked == ["pictures.example"]
    assert (public.connections, private.connections) == (1, 0)
    assert b"\r\nHost: pictures.example:%d\r\n" % public.port in public.heads[0]
    await refused(guard, f"http://pictures.example:{public.port}/a")
    assert private.connections == 0


async def test_one_private_address_among_public_ones_is_one_too_many(
    places: tuple[Listener, Listener],
) -> None:
    async def mixed(name: str, port: int) -> list[str]:
        return [str(PUBLIC), str(PRIVATE)]

    public, private = places
    await refused(
        Guard(10**6, 5.0, mixed, only_public, frozenset({public.port})),
        f"http://pictures.example:{public.port}/",
    )
    assert (public.connections, private.connections) == (0, 0)


@pytest.mark.parametrize(
    "answer",
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
async def test_other_answers_are_not_taken(
    places: tuple[Listener, Listener], answer: bytes
) -> None:
    public, private = places
    public.answer = answer.replace(b"{port}", b"%d" % public.port)
    guard = Guard(10**6, 5.0, resolve, only_public, frozenset({public.port}))
    await refused(guard, f"http://{PUBLIC}:{public.port}/")
    assert (public.connections, private.connections) == (1, 0)


async def test_other_ports_are_not_dialled(places: tuple[Listener, Listener]) -> None:
    public, _ = places
    await refused(Guard(10**6, 5.0, resolve, only_public), f"http://{PUBLIC}:{public.port}/")
    assert public.connections == 0


async def test_it_does_not_take_for_ever(places: tuple[Listener, Listener]) -> None:
    async def never(name: str, port: int) -> list[str]:
        await asyncio.sleep(3600)
        return []

    await refused(Guard(10**6, 0.05, never), "http://pictures.example/")


@given(st.text() | st.integers() | st.none() | st.lists(st.text(), max_size=2))
async def test_what_is_no_address_is_refused(url: object) -> None:
    async def nowhere(name: str, port: int) -> list[str]:
        return []

    assert (await refused(Guard(1, 1.0, nowhere), url)).field == "image_url"


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_ipv6_clothes_is_not_public(address: ipaddress.IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "::", "64:ff9b::", "2002::"):
        shift = 80 if prefix == "2002::" else 0
        number = int(ipaddress.IPv6Address(prefix)) | int(address) << shift
        assert not is_public(ipaddress.IPv6Address(number))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450::1"])
def test_the_open_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


# ---- through the API ---------------------------------------------------------------------------


def test_by_default_addresses_are_not_taken(service: Running, listener: Listener) -> None:
    for field in ("image_url", "mask_url"):
        fields = {"prompt": "x", field: f"http://127.0.0.1:{listener.port}/"}
        answer = service.client.post("/v1/img2img", json=fields)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
        assert "not taken here" in answer.json()["detail"]
    assert listener.connections == 0


def test_where_they_are_the_guard_stands(redis_url: str, listener: Listener) -> None:
    with running(redis_url, image_urls=True) as service:
        url = f"http://127.0.0.1:{listener.port}/"
        answer = service.client.post("/v1/img2img", json={"prompt": "x", "image_url": url})
        assert answer.json()["type"].endswith(":cannot-fetch")
        assert answer.json()["field"] == "image_url"
        both = {"prompt": "x", "image": in_base64(PICTURE), "image_url": url}
        twice = service.client.post("/v1/img2img", json=both)
        assert twice.json()["type"].endswith(":given-twice")
    assert listener.connections == 0


def test_a_fetched_picture_is_drawn_from(redis_url: str, listener: Listener) -> None:
    guard = Guard(10**6, 5.0, allowed=lambda _: True, ports=frozenset({listener.port}))
    with running(redis_url, image_urls=True) as service:
        state = service.app.state
        state.services = replace(state.services, fetching=Fetching(guard))
        fields = {"prompt": "x", "image_url": f"http://127.0.0.1:{listener.port}/a.png"}
        answer = service.client.post("/v1/img2img", json=fields)
        assert answer.status_code == 200, answer.text
        assert service.worker.seen[0].image_key
    listener.connections = 0

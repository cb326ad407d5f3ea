"""HTTP protocol limits: slow clients and clients with endless data lose their connection."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx
import psutil
import pytest

from service.app import create_app
from service.routes.deps import Services
from tests.service.conftest import MAX_BODY_BYTES, Running, running, serving, settings_for
from tests.service.raw_http import BODY, CHUNKED, HEAD, connected, received
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Running]:
    """Run a service whose clients may be stopped for long between a connection and its head."""
    timeouts = {"send_timeout_s": 0.4, "upload_silence_s": 0.6, "upload_grace_s": 0.6}
    with running(redis_server.url, max_bodies_bytes=2 * MAX_BODY_BYTES, **timeouts) as service:
        yield service


@pytest.fixture(scope="module")
def short_head() -> Iterator[Running]:
    """Run a service that waits little for the head of a request; its worker takes no other jobs."""
    with RedisServer() as redis, running(redis.url, header_timeout_s=0.4) as service:
        yield service


def alive(service: Running) -> bool:
    try:
        return service.client.post("/v1/txt2img", json={"prompt": "x"}).status_code == 200
    except httpx.TransportError:  # this client was stopped, and cut off
        return alive(service)


@pytest.mark.parametrize(
    "start",
    [b"", b"POST", HEAD, HEAD + b"X-Long: " + b"x" * 100, b"\r\n\r\n"],
    ids=["nothing", "a word", "headers", "half a header", "empty lines"],
)
def test_incomplete_head_times_out(short_head: Running, start: bytes) -> None:
    with closing(connected(short_head)) as connection:
        connection.sendall(start)
        assert received(connection) == b""
    assert alive(short_head)


def test_slow_head_times_out(short_head: Running) -> None:
    with closing(connected(short_head)) as connection:
        connection.settimeout(0.01)
        connection.sendall(b"GET /")
        response = None
        while response is None:
            try:
                connection.sendall(b"x")
                response = connection.recv(100)
            except TimeoutError:
                time.sleep(0.03)
            except ConnectionError:
                response = b""
        assert response == b""
    assert alive(short_head)


@pytest.mark.parametrize(
    "endless",
    [
        HEAD + b"X-Endless: ",
        HEAD + b"\r\n".join(b"X-%d: y" % i for i in range(9000)) + b"\r\n",
        CHUNKED + b"0\r\nX-Trailer: ",
        CHUNKED + b"1;extension=",
        b"GET /",
    ],
    ids=["header", "headers", "trailer", "chunk extension", "path"],
)
def test_endless_head_is_cut_off(short_head: Running, endless: bytes) -> None:
    with closing(connected(short_head)) as connection:
        try:
            connection.sendall(endless)
            for _ in range(1000):  # 64 MB
                connection.sendall(b"x" * 65536)
        except OSError:
            pass  # cut off, as it should be
        else:
            raise AssertionError("64 MB of headers were read")
        assert received(connection)[:12] in (b"HTTP/1.1 400", b"")
    assert alive(short_head)


def test_trailers_are_not_headers(service: Running) -> None:
    trailer = b"0\r\nPrefer: respond-async\r\nX-Request-Id: forged\r\n\r\n"
    with closing(connected(service)) as connection:
        head = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        connection.sendall(head + b"%x\r\n%b\r\n" % (len(BODY), BODY) + trailer)
        response = received(connection)
    assert response.startswith(b"HTTP/1.1 200")
    assert b"forged" not in response


def test_incomplete_body_times_out(service: Running) -> None:
    with closing(connected(service)) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n" + BODY)
        response = received(connection)
    assert response.startswith(b"HTTP/1.1 408")
    assert b"urn:darkroom:problem:too-slow" in response


def test_slow_body_times_out(service: Running) -> None:
    with closing(connected(service)) as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        connection.settimeout(0.01)
        response = b""
        while not response:
            connection.sendall(b" ")
            try:
                response = connection.recv(65536)
            except TimeoutError:
                time.sleep(0.02)
    assert response.startswith(b"HTTP/1.1 408")


def test_memory_of_all_bodies_is_limited(redis_server: RedisServer) -> None:
    """Two clients use the whole memory budget; a third gets 503 until they disconnect."""
    head = HEAD + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES
    # With the usual timeouts: the two clients stay silent until the third is refused.
    with running(redis_server.url, max_bodies_bytes=2 * MAX_BODY_BYTES) as service:
        services: Services = service.app.state.services
        with ExitStack() as connections:
            for _ in range(2):
                connection = connections.enter_context(closing(connected(service)))
                connection.sendall(head + b" " * (MAX_BODY_BYTES - 100))
            refused = service.client.post("/v1/txt2img", content=b" " * 10_000, headers=JSON)
            while refused.status_code != 503:  # the service has not yet read the two bodies
                refused = service.client.post("/v1/txt2img", content=b" " * 10_000, headers=JSON)
            assert refused.json()["type"].endswith(":overloaded")
            assert int(refused.headers["retry-after"]) > 0
        while not alive(service):
            time.sleep(0.05)
        assert services.watcher.watched == 0


JSON = {"Content-Type": "application/json"}


def test_body_is_released_while_its_client_waits(service: Running) -> None:
    """More clients with large bodies wait than the memory budget allows at once."""
    body = json.dumps({"prompt": "x"}).encode() + b" " * (MAX_BODY_BYTES - 100)
    services: Services = service.app.state.services
    service.worker.hold()
    with ExitStack() as connections:
        connections.callback(service.worker.release)
        waiting = []
        for number in range(5):
            # Not before it sends: a connection that stays silent is cut off.
            connection = connections.enter_context(closing(connected(service)))
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            waiting.append(connection)
            while services.watcher.watched < number + 1:
                time.sleep(0.01)
        service.worker.release()
        for connection in waiting:
            assert connection.recv(12) == b"HTTP/1.1 200"


def is_open(connection: socket.socket) -> bool:
    """Return True until the service closes its end, also before it has accepted the connection."""
    address = connection.getsockname()
    return any(
        peer.raddr == address and peer.status in (psutil.CONN_SYN_RECV, psutil.CONN_ESTABLISHED)
        for peer in psutil.net_connections("tcp")
    )


def test_client_that_does_not_read_is_cut_off(service: Running) -> None:
    """A client that reads nothing of a response of several megabytes."""
    fields = {"prompt": "x", "width": 128, "height": 256, "n": 4, "response": "base64"}
    body = json.dumps(fields).encode()
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = service.url.removeprefix("http://").split(":")
        connection.connect((host, int(port)))
        connection.sendall(40 * request)  # more responses than the system's own buffers hold
        while is_open(connection):
            time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        response = received(connection)
    assert response.count(b"HTTP/1.1 200") < 40
    assert alive(service)


def can_use_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not can_use_ipv6(), reason="this machine has no IPv6")
def test_two_colons_are_every_address_of_both_families() -> None:
    app = create_app(settings_for("redis://unused"))
    with serving(app, host="::") as url:
        port = url.rpartition(":")[2]
        for address in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{address}:{port}/healthz", timeout=60).status_code == 200

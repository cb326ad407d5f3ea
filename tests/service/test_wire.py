"""HTTP as clients send it: upgrades, `Expect`, half-closed connections, refused uploads."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.routes.deps import Services
from tests.service.conftest import MAX_BODY_BYTES, Running, running
from tests.service.raw_http import (
    BODY,
    CHUNKED,
    HEAD,
    RawResponse,
    connected,
    read_until,
    received,
    responses_of,
)
from tests.support.redis_server import RedisServer

LENGTH = b"Content-Length: %d\r\n" % len(BODY)
# As recorded from curl 7.88.1 with --http2 and from the HttpClient of Java 17.
CURL = (
    HEAD
    + b"User-Agent: curl/7.88.1\r\nAccept: */*\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    + b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    + LENGTH
)
JAVA = (
    b"POST /v1/txt2img HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    + LENGTH
    + b"Host: localhost\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
    + b"Upgrade: h2c\r\nUser-Agent: Java-http-client/17.0.15\r\n"
    + b"Content-Type: application/json\r\n"
)
CHUNKED_UPGRADE = CHUNKED[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
CHUNKED_BODY = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, upload_silence_s=20.0) as service:
        yield service


@pytest.fixture(scope="module")
def short_head() -> Iterator[Running]:
    """Run a service that waits little for the head of a request."""
    with RedisServer() as redis, running(redis.url, header_timeout_s=1.0) as service:
        yield service


def problem(response: RawResponse) -> str:
    """Return the last part of the problem's type."""
    assert response.headers["content-type"] == "application/problem+json"
    return str(json.loads(response.body)["type"]).rpartition(":")[2]


def exchange(service: Running, *parts: bytes) -> list[RawResponse]:
    """Send `parts` one after the other, and return all responses."""
    with closing(connected(service)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        return responses_of(connection)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (CURL, BODY),
        (JAVA, BODY),
        (CHUNKED_UPGRADE, CHUNKED_BODY),
        (HEAD + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" + LENGTH, BODY),
        (HEAD + b"Connection: upgrade\r\nUpgrade: TLS/1.2, h2c\r\n" + LENGTH, BODY),
    ],
    ids=["curl", "Java", "chunked", "websocket", "several"],
)
def test_offer_of_another_protocol_is_ignored(service: Running, head: bytes, body: bytes) -> None:
    for parts in ((head + b"\r\n" + body + LAST,), (head + b"\r\n", body, LAST)):
        image, health = exchange(service, *parts)
        assert (image.status, health.status) == (200, 200)
        assert "upgrade" not in image.headers
        assert json.loads(image.body)["images"]


@pytest.mark.parametrize(
    "connection",
    [
        b"Connection: Upgrade, close\r\n",
        b"Connection: close, Upgrade\r\n",
        b"Connection: Upgrade\r\nConnection: close\r\n",
    ],
)
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_offer_with_the_last_request_is_ignored(
    service: Running, connection: bytes, protocol: bytes
) -> None:
    head = HEAD + connection + b"Upgrade: " + protocol + b"\r\n" + LENGTH + b"\r\n"
    for parts in ((head + BODY,), (head, BODY)):
        (response,) = exchange(service, *parts)
        assert response.status == 200
        assert response.headers["connection"] == "close"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, len(CURL + BODY)), max_size=4))
def test_offer_may_arrive_in_any_parts(service: Running, cuts: list[int]) -> None:
    data = CURL + b"\r\n" + BODY + LAST
    ends = [0, *sorted(set(cuts)), len(data)]
    parts = [data[begin:end] for begin, end in pairwise(ends)]
    assert [response.status for response in exchange(service, *parts)] == [200, 200]


def test_many_offers_in_one_segment(service: Running) -> None:
    offer = (
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    )
    responses = exchange(service, offer * 200 + LAST)
    assert [response.status for response in responses] == [200] * 201


def test_curl_gets_its_image(service: Running, tmp_path: Path) -> None:
    """A large body: curl offers HTTP/2, and waits for 100 Continue."""
    if (curl := shutil.which("curl")) is None:
        pytest.skip("curl is not installed")
    body = tmp_path / "body.json"
    body.write_bytes(BODY + b" " * (MAX_BODY_BYTES - len(BODY)))
    command = [curl, "--silent", "--show-error", "--fail", "--http2", "--max-time", "20"]
    headers = ["-H", "Content-Type: application/json", "-H", "Expect: 100-continue"]
    target = ["--data-binary", f"@{body}", f"{service.url}/v1/txt2img"]
    answer = subprocess.run([*command, *headers, *target], capture_output=True, check=True)
    assert json.loads(answer.stdout)["images"]


JAVA_CLIENT = """
import java.net.URI;
import java.net.http.*;
public class Post {
  public static void main(String[] url) throws Exception {
    for (boolean expect : new boolean[] {false, true}) {
      var request = HttpRequest.newBuilder(URI.create(url[0])).expectContinue(expect)
          .header("Content-Type", "application/json")
          .POST(HttpRequest.BodyPublishers.ofString("{\\"prompt\\": \\"x\\"}")).build();
      var response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
      System.out.println(response.statusCode());
    }
  }
}
"""


@pytest.mark.long
def test_java_gets_its_image(service: Running, tmp_path: Path) -> None:
    if (java := shutil.which("java")) is None or shutil.which("javac") is None:
        pytest.skip("a Java development kit is not installed")
    (tmp_path / "Post.java").write_text(JAVA_CLIENT)
    command = [java, str(tmp_path / "Post.java"), f"{service.url}/v1/txt2img"]
    answer = subprocess.run(command, capture_output=True, check=True, text=True)
    assert answer.stdout.split() == ["200", "200"]


EXPECT = HEAD + b"Expect: 100-continue\r\n"


def test_body_is_asked_for_and_read(service: Running) -> None:
    with closing(connected(service)) as connection:
        connection.sendall(EXPECT + LENGTH + b"Connection: close\r\n\r\n")
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        (response,) = responses_of(connection)
    assert response.status == 200


def test_body_of_http_1_0_is_not_asked_for(service: Running) -> None:
    """Its response would be taken for the only one."""
    with closing(connected(service)) as connection:
        connection.sendall(EXPECT.replace(b"1.1", b"1.0") + LENGTH + b"\r\n" + BODY)
        (response,) = responses_of(connection)
    assert response.status == 200


@pytest.mark.parametrize(
    ("head", "status", "kind"),
    [
        (EXPECT + b"Content-Length: %d\r\n" % (MAX_BODY_BYTES + 1), 413, "payload-too-large"),
        (EXPECT + b"Content-Length: %d\r\n" % 10**15, 413, "payload-too-large"),
        (EXPECT + LENGTH + b"Origin: http://other.example\r\n", 403, "foreign-origin"),
        (EXPECT.replace(b"json", b"xml") + LENGTH, 415, "unsupported-media-type"),
    ],
    ids=["too large", "far too large", "403", "415"],
)
def test_refused_body_is_not_asked_for(
    service: Running, head: bytes, status: int, kind: str
) -> None:
    """The only response is the refusal. The connection ends, as the body may follow or not."""
    with closing(connected(service)) as connection:
        connection.sendall(head + b"\r\n")
        (response,) = responses_of(connection)
    assert (response.status, problem(response)) == (status, kind)
    assert response.headers["connection"] == "close"


def test_half_closed_connection_gets_its_response(service: Running) -> None:
    service.worker.hold()
    services: Services = service.app.state.services
    with closing(connected(service)) as connection:
        connection.sendall(HEAD + LENGTH + b"\r\n" + BODY)
        connection.shutdown(socket.SHUT_WR)
        while not services.watcher.watched:
            time.sleep(0.01)
        service.worker.release()
        (response,) = responses_of(connection)
    assert response.status == 200
    assert json.loads(response.body)["images"]


def test_half_closed_connection_gets_all_responses(service: Running) -> None:
    """Requests that were sent together, the first of which takes longest."""
    post = HEAD + LENGTH + b"\r\n" + BODY
    get = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with closing(connected(service)) as connection:
        connection.sendall(post + get + post + get)
        connection.shutdown(socket.SHUT_WR)
        responses = responses_of(connection)
    assert [response.status for response in responses] == [200] * 4


def test_half_closed_connection_gets_its_events(service: Running) -> None:
    service.worker.hold()
    headers = {"Prefer": "respond-async"}
    job = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=headers).json()
    with closing(connected(service)) as connection:
        get = f"GET /v1/jobs/{job['id']}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(get.encode())
        connection.shutdown(socket.SHUT_WR)
        read_until(connection, b"event: queued")
        service.worker.release()
        assert b"event: finished" in received(connection)


@pytest.mark.parametrize(
    "data",
    [HEAD, HEAD + b"Content-Length: 100\r\n\r\n" + BODY, CHUNKED + b"f\r\n" + BODY, b"GET /v1/mod"],
    ids=["head", "body", "chunked", "line"],
)
def test_request_that_ends_early_is_malformed(service: Running, data: bytes) -> None:
    with closing(connected(service)) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        (response,) = responses_of(connection)
    assert (response.status, problem(response)) == (400, "malformed-request")
    assert "ends early" in json.loads(response.body)["detail"]


@pytest.mark.parametrize(
    "data",
    [b"hello\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", CHUNKED + b"x\r\n", b"\x16\x03\x01"],
    ids=["words", "HTTP/2", "chunk", "TLS"],
)
def test_what_is_not_http_is_a_problem(service: Running, data: bytes) -> None:
    (response,) = exchange(service, data)
    assert (response.status, problem(response)) == (400, "malformed-request")


def test_request_before_a_malformed_one_is_answered(service: Running) -> None:
    (response,) = exchange(service, HEAD + LENGTH + b"\r\n" + BODY + b"hello\r\n\r\n")
    assert response.status == 200


def test_requests_are_answered_in_order_when_the_last_ends_early(service: Running) -> None:
    with closing(connected(service)) as connection:
        connection.sendall(HEAD + LENGTH + b"\r\n" + BODY)
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n" + BODY)
        connection.shutdown(socket.SHUT_WR)
        image, malformed = responses_of(connection)
    assert (image.status, malformed.status) == (200, 400)
    assert problem(malformed) == "malformed-request"


FOREIGN = HEAD + b"Origin: http://other.example\r\n"
CHUNK = b"%x\r\n%b\r\n" % (2**16, b" " * 2**16)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (FOREIGN + b"Content-Length: %d\r\n\r\n" % 2**21, 403),
        (HEAD + b"Content-Length: %d\r\n\r\n" % 2**21, 413),
        (CHUNKED, 413),
        (HEAD.replace(b"json", b"xml") + b"Content-Length: %d\r\n\r\n" % 2**21, 415),
        (HEAD.replace(b"txt2img", b"nowhere") + b"Content-Length: %d\r\n\r\n" % 2**21, 404),
        (HEAD.replace(b"POST", b"PUT") + b"Content-Length: %d\r\n\r\n" % 2**21, 405),
        (HEAD.replace(b"localhost", b"a.example") + b"Content-Length: %d\r\n\r\n" % 2**21, 421),
    ],
    ids=["403", "413", "413 chunked", "415", "404", "405", "421"],
)
def test_client_that_sends_first_reads_its_refusal(
    short_head: Running, head: bytes, status: int
) -> None:
    """It sends for longer than the service waits for the head of a request."""
    part = CHUNK if head == CHUNKED else b" " * 2**16
    with closing(connected(short_head)) as connection:
        connection.sendall(head)
        for _ in range(32):
            connection.sendall(part)
            time.sleep(0.04)
        (response,) = responses_of(connection)
    assert response.status == status
    assert response.headers["connection"] == "close"
    problem(response)


def test_client_without_a_key_reads_its_refusal(redis_url: str) -> None:
    with (
        running(redis_url, auth="required", admin_key="k" * 32) as service,
        closing(connected(service)) as connection,
    ):
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % 2**20)
        for _ in range(16):
            connection.sendall(b" " * 2**16)
            time.sleep(0.01)
        (response,) = responses_of(connection)
    assert (response.status, problem(response)) == (401, "unauthorized")


def test_refused_body_without_end_is_cut_off(service: Running) -> None:
    with closing(connected(service)) as connection:
        connection.sendall(CHUNKED)
        with pytest.raises(ConnectionError):
            connection.sendall(CHUNK * 1000)  # 64 MB


def is_open(connection: socket.socket) -> bool:
    """Return False if what is sent is answered by a reset."""
    try:
        connection.sendall(b" ")
    except ConnectionError:
        return False
    return True


def test_silent_client_is_cut_off_after_its_refusal(redis_url: str) -> None:
    """Its connection is closed at last, and data it sends then is answered by a reset."""
    with (
        running(redis_url, upload_silence_s=0.2) as service,
        closing(connected(service)) as connection,
    ):
        connection.sendall(FOREIGN + b"Content-Length: 1000000\r\n\r\n")
        (response,) = responses_of(connection)
        assert response.status == 403
        while is_open(connection):
            time.sleep(0.3)

"""Requests over a plain socket, for what HTTP clients do not let one send."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from tests.service.conftest import Running

BODY = b'{"prompt": "x"}'
HEAD = b"POST /v1/txt2img HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class RawResponse:
    """One response: its status, its headers with names in lower case, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes


def connected(service: Running) -> socket.socket:
    """Return a connection to the service."""
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


@contextmanager
def posted(
    service: Running, path: str, body: object, authorization: str = ""
) -> Iterator[socket.socket]:
    """Send a POST request with a JSON body; the client disconnects at the end of `with`."""
    encoded = json.dumps(body).encode()
    fields = [
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(encoded)}",
    ]
    fields += [f"Authorization: {authorization}"] if authorization else []
    head = "\r\n".join([f"POST {path} HTTP/1.1", *fields, "\r\n"])
    with closing(connected(service)) as connection:
        connection.sendall(head.encode() + encoded)
        yield connection


def received(connection: socket.socket) -> bytes:
    """Return all bytes received until the service closes the connection or resets it."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def responses_of(connection: socket.socket) -> list[RawResponse]:
    """Return every response until the service ends the connection, which it must not reset."""
    data, responses = b"", []
    while chunk := connection.recv(65536):
        data += chunk
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        length = int(headers.get("content-length", len(rest) if status[9] != "1" else 0))
        responses.append(RawResponse(int(status[9:12]), headers, rest[:length]))
        data = rest[length:]
    return responses


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Return the bytes received up to and including `end`."""
    data = b""
    while not data.endswith(end):
        byte = connection.recv(1)
        assert byte, data
        data += byte
    return data

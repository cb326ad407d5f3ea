"""A minimal HTTP client with little overhead, because it shares the cores with the service.

It keeps one connection alive and sends one request at a time. Responses need a Content-Length.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

MAX_RESPONSE = 1 << 26  # bytes
END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"


@dataclass(frozen=True)
class Response:
    """Status and body of an HTTP response."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def expect(self, status: int) -> Response:
        """Return this response.

        Raises:
            RuntimeError: the status is not `status`.
        """
        if self.status != status:
            raise RuntimeError(f"expected {status}, but got {self.status}: {self.body[:500]!r}")
        return self


class Connection:
    """A connection to the service, used as `async with Connection(url)`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._read: asyncio.StreamReader
        self._write: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._read, self._write = await asyncio.open_connection(
            self._host, self._port, limit=MAX_RESPONSE
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._write.close()

    async def get(self, path: str) -> Response:
        return await self.send(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    async def post(self, path: str, body: object, prefer: str = "") -> Response:
        return await self.send(post(self._host, path, body, prefer))

    async def send(self, request: bytes) -> Response:
        """Send a complete request; returns the response."""
        if self._read.at_eof():  # the service closes a connection that was idle for some seconds
            await self.__aenter__()
        self._write.write(request)
        head = (await self._read.readuntil(END)).lower()
        start = head.index(LENGTH) + len(LENGTH)
        length = int(head[start : head.index(b"\r", start)])
        return Response(int(head[9:12]), await self._read.readexactly(length))


def post(host: str, path: str, body: object, prefer: str = "") -> bytes:
    """Return a complete POST request with a JSON body."""
    data = json.dumps(body).encode()
    preference = f"Prefer: {prefer}\r\n" if prefer else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"{preference}Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data

"""Transports of httpx that lose connections, and note the requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import httpx


class Losses:
    """The requests that were sent, and the connections that are still to be lost.

    `on_resume` is called before a stream is resumed.
    """

    def __init__(
        self, answers: int = 0, streams: int = 0, on_resume: Callable[[], None] = lambda: None
    ) -> None:
        self._on_resume = on_resume
        self.requests: list[httpx.Request] = []
        self.answers = answers  # answers to POST that do not arrive
        self.streams = streams  # streams that end after their first piece

    def note(self, request: httpx.Request) -> None:
        self.requests.append(request)
        if "Last-Event-ID" in request.headers:
            self._on_resume()

    def check_answer(self, request: httpx.Request) -> None:
        """Raise the error of a lost connection, after the server has done its work."""
        if request.method == "POST" and self.answers > 0:
            self.answers -= 1
            raise httpx.RemoteProtocolError("the connection was lost")

    def is_cut(self, request: httpx.Request) -> bool:
        if request.url.path.endswith("/events") and self.streams > 0:
            self.streams -= 1
            return True
        return False


class FlakyTransport(httpx.HTTPTransport):
    """Sends requests, and loses some connections."""

    def __init__(self, losses: Losses) -> None:
        super().__init__()
        self._losses = losses

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._losses.note(request)
        response = super().handle_request(request)
        self._losses.check_answer(request)
        if self._losses.is_cut(request):
            assert isinstance(response.stream, httpx.SyncByteStream)
            response.stream = _CutStream(response.stream)
        return response


class _CutStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            yield piece
            raise httpx.ReadError("the connection was lost")

    def close(self) -> None:
        self._stream.close()


class AsyncFlakyTransport(httpx.AsyncHTTPTransport):
    """The same for asyncio."""

    def __init__(self, losses: Losses) -> None:
        super().__init__()
        self._losses = losses

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._losses.note(request)
        response = await super().handle_async_request(request)
        self._losses.check_answer(request)
        if self._losses.is_cut(request):
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _AsyncCutStream(response.stream)
        return response


class _AsyncCutStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece
            raise httpx.ReadError("the connection was lost")

    async def aclose(self) -> None:
        await self._stream.aclose()

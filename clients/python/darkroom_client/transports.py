"""Sends requests by httpx, waiting or not.

All else of the package is written once, as coroutines. Those of a `BlockingTransport` never
suspend, so `Client` runs them to their end without an event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol, TypeVar

import httpx

from darkroom_client.errors import DarkroomError

T = TypeVar("T")


class Transport(Protocol):
    """The parts of a client that wait."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Return a response with its body."""

    def stream(
        self, request: httpx.Request
    ) -> AbstractAsyncContextManager[tuple[httpx.Response, AsyncIterator[str]]]:
        """Open a response whose body is read piece by piece; that of an error is read at once."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def uninterrupted(
        self, work: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[object]]
    ) -> T:
        """Return the result of `work`. If its task is cancelled, finish the work and undo it."""

    async def close(self) -> None:
        """Close the connections."""


class AsyncTransport:
    """Requests of asyncio tasks."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await self._http.send(request)

    @asynccontextmanager
    async def stream(
        self, request: httpx.Request
    ) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[str]]]:
        response = await self._http.send(request, stream=True)
        try:
            if not response.is_success:
                await response.aread()
            yield response, response.aiter_text()
        finally:
            await response.aclose()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def uninterrupted(
        self, work: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[object]]
    ) -> T:
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            with suppress(DarkroomError):
                await undo(await task)
            raise

    async def close(self) -> None:
        await self._http.aclose()


class BlockingTransport:
    """Requests that block the thread; the coroutines never suspend."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    async def send(self, request: httpx.Request) -> httpx.Response:
        return self._http.send(request)

    @asynccontextmanager
    async def stream(
        self, request: httpx.Request
    ) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[str]]]:
        response = self._http.send(request, stream=True)

        async def pieces() -> AsyncIterator[str]:
            for piece in response.iter_text():
                yield piece

        try:
            if not response.is_success:
                response.read()
            yield response, pieces()
        finally:
            response.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def uninterrupted(
        self, work: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[object]]
    ) -> T:
        return await work

    async def close(self) -> None:
        self._http.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of a `BlockingTransport` and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise AssertionError("a coroutine of a blocking transport has suspended")

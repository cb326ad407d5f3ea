"""Requests to one server: address, key, errors, and further tries."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import httpx

from darkroom_client.answers import Answer, parse, read_problem
from darkroom_client.errors import (
    DarkroomError,
    Problem,
    ProblemError,
    ServerUnreachable,
    UnexpectedAnswer,
    error_of,
)
from darkroom_client.events import Event, EventDecoder
from darkroom_client.retries import wait_before_retry
from darkroom_client.transports import Transport

API_KEY = "DARKROOM_API_KEY"
LOCAL = "http://127.0.0.1:8000"
PROBLEM_TYPE = "application/problem+json"
IDEMPOTENCY_KEY = "Idempotency-Key"

CONNECT_TIMEOUT_S = 10.0
TIMEOUT_S = 30.0  # of an answer
SUBMIT_TIMEOUT_S = 330.0  # a server without a model waits 300 s for one
EVENT_TIMEOUT_S = 60.0  # between two pieces of a stream; a server sends comments more often

T = TypeVar("T")


def usable_url(url: str | None) -> str:
    """Return the address without a slash at its end. Raises ValueError if it is none."""
    url = (url or LOCAL).rstrip("/")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"url is {url}, but must be an http or https URL")
    return url


def usable_key(key: str | None) -> str | None:
    """Return the key, else that of `DARKROOM_API_KEY`, else None.

    Raises ValueError, without the key, if no header can hold it.
    """
    name = "key" if key else API_KEY
    key = key or os.environ.get(API_KEY, "").strip() or None
    if key is not None and not all("!" <= character <= "~" for character in key):
        raise ValueError(
            f"{name} (its value is not shown) must be made of letters, digits and signs of ASCII, "
            "without spaces"
        )
    return key


class Connection:
    """Sends requests to one server.

    All requests raise `ServerUnreachable`, `UnexpectedAnswer` or a `ProblemError`.
    """

    def __init__(
        self, transport: Transport, url: str | None, key: str | None, retries: int
    ) -> None:
        key = usable_key(key)
        self.transport = transport
        self.url = usable_url(url)
        self.retries = retries
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def read(self, read: Callable[[Answer], T], method: str, path: str, **options: Any) -> T:
        """Send a request and return what `read` makes of the JSON in its answer."""
        return self.parse(read, (await self.request(method, path, **options)).content)

    def parse(self, read: Callable[[Answer], T], text: bytes | str) -> T:
        return parse(text, read, self.url)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int | None = None,
    ) -> httpx.Response:
        """Send a request, again after errors that may pass, and return its answer.

        A POST is sent again only with an idempotency key, or after an answer to it.
        """
        request = self._build(method, path, timeout_s, headers, json=json, params=params)
        repeatable = method != "POST" or IDEMPOTENCY_KEY in request.headers
        limit = self.retries if retries is None else retries
        tried = 0
        while True:
            try:
                return await self._send(request)
            except DarkroomError as error:
                wait_s = wait_before_retry(error, tried)
                if wait_s is None or tried >= limit:
                    raise
                if not (repeatable or isinstance(error, ProblemError)):
                    raise
            tried += 1
            await self.transport.sleep(wait_s)

    @asynccontextmanager
    async def events(self, path: str, last_id: str) -> AsyncIterator[AsyncIterator[Event] | None]:
        """Open a stream of events; None if the client has seen the last one."""
        headers = {"Last-Event-ID": last_id} if last_id else {}
        request = self._build("GET", path, EVENT_TIMEOUT_S, headers)
        with self._translated_errors():
            async with self.transport.stream(request) as (response, pieces):
                if not response.is_success:
                    raise self._error(response)
                yield None if response.status_code == httpx.codes.NO_CONTENT else _decoded(pieces)

    def problem_of(self, event: Event) -> ProblemError:
        """Return the error with which the server has ended a stream."""
        return error_of(self.parse(read_problem, event.data), event.retry_s)

    def _build(
        self,
        method: str,
        path: str,
        timeout_s: float,
        headers: Mapping[str, str] | None,
        **content: Any,
    ) -> httpx.Request:
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        return httpx.Request(
            method,
            f"{self.url}{path}",
            headers={**self._headers, **(headers or {})},
            extensions={"timeout": timeout.as_dict()},
            **content,
        )

    async def _send(self, request: httpx.Request) -> httpx.Response:
        with self._translated_errors():
            response = await self.transport.send(request)
        if not response.is_success:
            raise self._error(response)
        return response

    def _error(self, response: httpx.Response) -> ProblemError:
        """Return the error of a problem response (RFC 9457), or else of the status."""
        status = response.status_code
        problem = Problem(status, detail=f"{response.request.url} answered {status}")
        if response.headers.get("content-type", "").startswith(PROBLEM_TYPE):
            try:
                found = self.parse(read_problem, response.content)
            except UnexpectedAnswer:
                found = problem
            if found.detail or found.title:
                problem = replace(found, status=status)
        retry_after = response.headers.get("retry-after", "")
        return error_of(problem, float(retry_after) if retry_after.isdecimal() else None)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            message = f"no Darkroom answers at {self.url} ({reason})"
            raise ServerUnreachable(message) from error


async def _decoded(pieces: AsyncIterator[str]) -> AsyncIterator[Event]:
    decoder = EventDecoder()
    async for piece in pieces:
        for event in decoder.events(piece):
            yield event

"""Waiting on behalf of a client, until it disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.websockets import WebSocket

T = TypeVar("T")

INPUT_ENDED = "input_ended"  # in a request's state: the client has ended its side


async def until_disconnect(
    request: Request | WebSocket, waiting: Coroutine[Any, Any, T], *, or_end_of_input: bool = False
) -> T:
    """Return the result of `waiting`; raise `ClientDisconnect` if the client disconnects first.

    A client that ends its side of the connection may still read the response. A program that ends
    does the same, so with `or_end_of_input` this counts as a disconnect.
    """
    wait = asyncio.ensure_future(waiting)
    ends = [asyncio.ensure_future(_client_disconnect(request))]
    if or_end_of_input:
        ends.append(asyncio.ensure_future(request.scope["state"][INPUT_ENDED].wait()))
    try:
        await asyncio.wait((wait, *ends), return_when=asyncio.FIRST_COMPLETED)
        if not wait.done():
            raise ClientDisconnect
        return wait.result()
    finally:
        for task in (wait, *ends):
            task.cancel()
        await asyncio.gather(wait, *ends, return_exceptions=True)


async def _client_disconnect(request: Request | WebSocket) -> None:
    while (await request.receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass

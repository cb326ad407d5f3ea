"""Routes whose answers say how long they took, as AUTOMATIC1111's do."""

import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

PREFIX = "/sdapi/v1"  # of most routes
HEADER = "X-Process-Time"  # in seconds


class TimedRoute(APIRoute):
    """A route that adds `X-Process-Time` to its answers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def timed(request: Request) -> Response:
            began = time.perf_counter()
            response = await handle(request)
            response.headers[HEADER] = f"{time.perf_counter() - began:.4f}"
            return response

        return timed

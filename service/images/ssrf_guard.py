"""Downloads of images from URLs given by clients, within the bounds of `service.outbound`.

All failures give the same error, which therefore tells a client nothing about the internal network.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from protocol.errors import InvalidRequest
from service.images.image_file import NAMES
from service.outbound import (
    OUTBOUND_ERRORS,
    PORTS,
    Address,
    OutboundPolicy,
    Rejected,
    Resolve,
    is_public,
    outbound,
    resolve,
)

BOUND = f"the address of a {NAMES} file that anybody on the internet can fetch"
HEADERS = {
    "Accept": "image/png, image/jpeg, image/webp, image/avif",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True)
class SsrfGuard:
    """Downloads files of at most `max_bytes` from public addresses, each within `timeout_s`."""

    max_bytes: int
    timeout_s: float
    resolve: Resolve = resolve
    allowed: Callable[[Address], bool] = is_public
    ports: frozenset[int] = frozenset(PORTS.values())

    async def fetch(self, field: str, url: object, reserve: Callable[[int], None]) -> bytes:
        """Return the file at `url`. Calls `reserve` with the size of each chunk; it may raise.

        Raises `InvalidRequest`, with the same message for every failure.
        """
        policy = OutboundPolicy(self.resolve, self.allowed, self.ports)
        try:
            async with (
                asyncio.timeout(self.timeout_s),
                outbound("GET", url, policy, self.timeout_s, HEADERS) as response,
            ):
                return await self._read(response, reserve)
        except OUTBOUND_ERRORS as error:
            raise InvalidRequest(field, url, BOUND, "cannot-fetch") from error

    async def _read(self, response: httpx.Response, reserve: Callable[[int], None]) -> bytes:
        if response.status_code != httpx.codes.OK or "content-encoding" in response.headers:
            raise Rejected
        data = bytearray()
        async for chunk in response.aiter_raw():
            reserve(len(chunk))
            data += chunk
            if len(data) > self.max_bytes:
                raise Rejected
        return bytes(data)

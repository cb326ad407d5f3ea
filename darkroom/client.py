"""The client of the commands that use a running server."""

import httpx

from darkroom_client import AsyncClient
from protocol.startup import InvalidSettings


def connect(url: str) -> AsyncClient:
    """Return a client of the server at `url`. Proxy settings are ignored.

    Raises InvalidSettings, without the key, if that of `DARKROOM_API_KEY` cannot be sent.
    """
    try:
        return AsyncClient(url, http=httpx.AsyncClient(trust_env=False))
    except ValueError as error:
        raise InvalidSettings(str(error)) from error

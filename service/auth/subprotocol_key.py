"""An API key among the subprotocols of a WebSocket, the one header field that pages can set."""

import base64

from starlette.datastructures import Headers
from starlette.types import Scope

SUBPROTOCOL = "darkroom.v1"  # the one that is spoken; a page offers it beside its key
KEY_PREFIX = "darkroom.key."  # before a key in base64url, which has only letters of a token


def headers_with_key(scope: Scope) -> Headers:
    """Return the header fields of a request; a key among the subprotocols as `X-API-Key`.

    A key in a header field of its own wins.
    """
    headers = Headers(scope=scope)
    if "authorization" in headers or "x-api-key" in headers:
        return headers
    for offered in scope.get("subprotocols", ()):
        if offered.startswith(KEY_PREFIX):
            return Headers(raw=[*headers.raw, (b"x-api-key", _decoded(offered))])
    return headers


def _decoded(subprotocol: str) -> bytes:
    text = subprotocol.removeprefix(KEY_PREFIX)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except ValueError:
        return b""

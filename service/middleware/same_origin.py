"""Origin header check."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Call

from protocol.errors import ForeignOrigin
from service.middleware.public_paths import SAFE_METHODS
from service.middleware.refusal import refuse


class SameOriginMiddleware:
    """Refuses what another site's page makes a browser change here (403).

    Forms may be sent anywhere without asking, but browsers say where from.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self.app = app
        self.origins = frozenset(origins)

    async def __call__(self, scope: Call, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._is_ours(origin, headers.get("host", "")):
                error = ForeignOrigin("Origin", origin, "this service, or among its origins")
                await refuse(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_ours(self, origin: str, host: str) -> bool:
        if origin in self.origins:
            return True
        try:
            return urlsplit(origin).netloc.lower() == host.lower() != ""
        except ValueError:  # a broken IPv6 address
            return False

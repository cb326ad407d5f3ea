"""Origin header check against cross-site request forgery."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from protocol.errors import ForeignOrigin
from service.middleware.errors import send_error
from service.middleware.public_paths import SAFE_METHODS


class SameOriginMiddleware:
    """Rejects requests other than GET, HEAD and OPTIONS from pages of other sites (403).

    A page may send a form to any site without a preflight request, but the browser adds its
    `Origin`.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self.app = app
        self.origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._is_allowed(origin, headers.get("host", "")):
                error = ForeignOrigin("Origin", origin, "this service, or among its origins")
                await send_error(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        if origin in self.origins:
            return True
        try:
            return urlsplit(origin).netloc.lower() == host.lower() != ""
        except ValueError:  # a malformed IPv6 address
            return False

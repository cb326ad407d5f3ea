"""Origin header check against cross-site request forgery."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from protocol.errors import ForeignOrigin
from service.middleware.errors import send_error
from service.middleware.public_paths import SAFE_METHODS
from service.origins import Origin
from service.settings import ServiceSettings

BOUND = "the origin of this service (DARKROOM_PUBLIC_URL) or one of DARKROOM_ALLOWED_ORIGINS"


class SameOriginMiddleware:
    """Rejects requests other than GET, HEAD and OPTIONS from pages of other sites (403).

    A page may send a form to any site without a preflight request, but the browser adds its
    `Origin`. The same holds for a WebSocket, which is rejected as well.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.origins = {Origin.parse(origin) for origin in settings.allowed_origins}
        if settings.public_url:
            self.origins.add(Origin.of_url(settings.public_url))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" or scope.get("method", "GET") not in SAFE_METHODS:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            scheme = scope["forwarded"].scheme
            if origin is not None and not self._is_allowed(origin, scheme, headers.get("host", "")):
                await send_error(ForeignOrigin("Origin", origin, BOUND), scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_allowed(self, given: str, scheme: str | None, host: str) -> bool:
        """Return True for an origin of the settings, or the one that the client has called.

        `scheme` is None where no trusted proxy tells it. A proxy that is not declared may terminate
        TLS, so either scheme is then possible.
        """
        try:
            origin = Origin.parse(given.encode("latin-1").decode(errors="replace"))
            return origin in self.origins or (
                origin.scheme in (("http", "https") if scheme is None else (scheme,))
                and origin == Origin.parse(f"{origin.scheme}://{host}")
            )
        except ValueError:
            return False

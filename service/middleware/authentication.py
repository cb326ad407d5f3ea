"""API key authentication, before a byte of the body is read."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from protocol.auth.api_keys import Scope
from protocol.errors import DarkroomError
from protocol.queue.idempotency import HEADER
from service.auth.api_keys import User
from service.middleware.errors import send_error
from service.middleware.public_paths import HEALTH, METRICS, PAGES, SAFE_METHODS
from service.settings import ServiceSettings

GENERATES = "POST"  # the method of every route that generates, and of no other


class AuthenticationMiddleware:
    """Checks the API key and its scope (401, 403); sets `scope["user"]`.

    A request that generates is refused if its key has no request left in this minute (429).
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.keys_needed = settings.keys_needed
        self.public = HEALTH | PAGES | ({METRICS} if settings.public_metrics else set())

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self.public:
            try:
                scope["user"] = user = await self._authenticated(scope)
            except DarkroomError as error:
                await send_error(error, scope, receive, send)
                return
            scope["client_name"] = user.name
        await self.app(scope, receive, send)

    async def _authenticated(self, scope: AsgiScope) -> User:
        if not self.keys_needed:
            return User.anonymous(scope["client"][0] if scope.get("client") else "")
        services = scope["app"].state.services
        headers = Headers(scope=scope)
        user: User = await services.api_keys.authenticate(headers)
        user.require(required_scope(scope["method"], scope["path"]))
        if scope["method"] == GENERATES:
            await services.admission.check(user, headers.get(HEADER))
        return user


def required_scope(method: str, path: str) -> Scope:
    """Return the scope that a key needs for a request."""
    if path == METRICS:
        return Scope.METRICS
    return Scope.READ if method in SAFE_METHODS else Scope.GENERATE

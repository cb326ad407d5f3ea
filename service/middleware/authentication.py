"""API key authentication, before a byte of the body is read."""

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Call

from protocol.auth.api_keys import Scope
from protocol.auth.limits import Rate
from protocol.errors import DarkroomError
from service.auth.api_keys import User
from service.middleware.public_paths import HEALTH, METRICS, PAGES, SAFE_METHODS
from service.middleware.refusal import refuse
from service.settings import ServiceSettings


class AuthenticationMiddleware:
    """Lets those in who show a key for what they want (401, 403, 429); names them in the scope."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.keys_needed = settings.keys_needed
        self.open = HEALTH | PAGES | ({METRICS} if settings.public_metrics else set())

    async def __call__(self, scope: Call, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self.open:
            try:
                scope["user"] = visitor = await self._visitor(scope)
            except DarkroomError as error:
                await refuse(error, scope, receive, send)
                return
            scope["client_name"] = visitor.name
        await self.app(scope, receive, send)

    async def _visitor(self, scope: Call) -> User:
        if not self.keys_needed:
            return User.anybody(scope["client"][0] if scope.get("client") else "")
        services = scope["app"].state.services
        visitor: User = await services.keys.visitor(Headers(scope=scope))
        visitor.may(wanted_scope(scope["method"], scope["path"]))
        if visitor.limits.requests_per_minute is not None:
            rate = Rate("requests", visitor.limits.requests_per_minute)
            await run_in_threadpool(services.limits.take, visitor.client, rate, 1)
        return visitor


def wanted_scope(method: str, path: str) -> Scope:
    """What a key must be meant for, to ask for this."""
    if path == METRICS:
        return Scope.METRICS
    return Scope.READ if method in SAFE_METHODS else Scope.GENERATE

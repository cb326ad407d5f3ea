"""API key authentication, before a byte of the body is read."""

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from protocol.auth.api_keys import Scope
from protocol.errors import DarkroomError
from protocol.queue.idempotency import HEADER
from service.auth.api_keys import User
from service.auth.signed_urls import READER
from service.auth.subprotocol_key import headers_with_key
from service.middleware.errors import send_error
from service.middleware.path_prefix import path_pattern
from service.middleware.public_paths import HEALTH, METRICS, OWN_KEY, PAGES, SAFE_METHODS
from service.settings import ServiceSettings

GENERATES = "POST"  # the method of every route that generates
SIGNATURE = b"signature="  # in the query of a signed URL


class AuthenticationMiddleware:
    """Checks the API key and its scope (401, 403); sets `scope["user"]`.

    A request that generates is refused if its key has no request left in this minute (429).
    `uncounted` are the paths of POST requests that generate nothing, in which `*` is any one part.
    A signed URL needs no key.
    """

    def __init__(
        self, app: ASGIApp, settings: ServiceSettings, uncounted: frozenset[str] = frozenset()
    ) -> None:
        self.app = app
        self.keys_needed = settings.keys_needed
        self.uncounted = [path_pattern(path) for path in uncounted]
        self.public = HEALTH | PAGES | ({METRICS} if settings.public_metrics else set())

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and scope["path"] not in self.public:
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
        method = scope.get("method", "GET")  # a WebSocket has none
        if method in SAFE_METHODS and SIGNATURE in scope["query_string"]:
            signer = services.url_signer
            if await run_in_threadpool(signer.verifies, scope["path"], scope["query_string"]):
                return READER
        headers = headers_with_key(scope)
        user: User = await services.api_keys.authenticate(headers)
        if not (method in SAFE_METHODS and scope["path"] == OWN_KEY):
            user.require(required_scope(method, scope["path"]))
        if method == GENERATES and not self._is_uncounted(scope["path"]):
            await services.admission.check(user, headers.get(HEADER))
        return user

    def _is_uncounted(self, path: str) -> bool:
        return any(pattern.fullmatch(path) for pattern in self.uncounted)


def required_scope(method: str, path: str) -> Scope:
    """Return the scope that a key needs for a request."""
    if path == METRICS:
        return Scope.METRICS
    return Scope.READ if method in SAFE_METHODS else Scope.GENERATE

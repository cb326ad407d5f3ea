"""The methods HEAD and OPTIONS, which every route has."""

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.schemas.allowed_methods import allowed_methods


class HeadMiddleware:
    """Responds to HEAD as to GET, without the body; a stream of events ends at once."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["method"] = "HEAD"  # by which the server knows that no body follows
                await send(message)
                await send({"type": "http.response.body"})

        scope["method"] = "GET"
        try:
            await self.app(scope, receive, send_head)
        finally:
            scope["method"] = "HEAD"


class OptionsMiddleware:
    """Responds to OPTIONS with the methods of the path, which are no secret."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asks = scope["type"] == "http" and scope["method"] == "OPTIONS"
        if asks and (methods := allowed_methods(scope)):
            response = Response(status_code=204, headers={"Allow": ", ".join(methods)})
            await response(scope, receive, send)
        else:
            await self.app(scope, receive, send)

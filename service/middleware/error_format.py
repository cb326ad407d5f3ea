"""The form of errors, by the path of the request."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from service.middleware.path_prefix import prefix_pattern
from service.schemas.error_format import ErrorFormat


class ErrorFormatMiddleware:
    """Notes the form of errors for each request in `scope["error_format"]`.

    `formats` has a form for each path prefix, in which `*` is any one part, and which may stand
    after a method, as in "GET /models"; the longest prefix counts, and other paths get
    problem+json. It stands before every middleware that can refuse a request.
    """

    def __init__(self, app: ASGIApp, formats: Mapping[str, ErrorFormat]) -> None:
        self.app = app
        longest_first = sorted(formats.items(), key=lambda item: len(item[0]), reverse=True)
        parts = ((prefix.rpartition(" "), form) for prefix, form in longest_first)
        self.formats = [(method, prefix_pattern(path), form) for (method, _, path), form in parts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            method = scope.get("method", "GET")  # a WebSocket has none
            method = "GET" if method == "HEAD" else method  # its answer has the same length
            for of_method, pattern, form in self.formats:
                if of_method in ("", method) and pattern.fullmatch(scope["path"]):
                    scope["error_format"] = form
                    break
        await self.app(scope, receive, send)

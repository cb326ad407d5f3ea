"""The methods of a path, for the `Allow` header."""

from starlette.routing import Match
from starlette.types import Scope

ROUTED = ("GET", "POST", "PUT", "PATCH", "DELETE")


def allowed_methods(scope: Scope) -> list[str]:
    """Return the methods to which the path of a request responds; none for an unknown path."""
    routes = scope["app"].router.routes
    methods = [
        method
        for method in ROUTED
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    if "GET" in methods:
        methods.append("HEAD")
    return [*methods, "OPTIONS"] if methods else []

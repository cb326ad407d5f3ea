"""Metrics and one log line for every request that has ended."""

import logging
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from service.middleware.response_status import NO_RESPONSE, ResponseStatus
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

# Label values of fixed number: values chosen by clients would fill the memory.
NO_ROUTE = "none"  # every path that no route matches
UNHANDLED_ERROR = "500"  # sent by the framework, outside this middleware
OTHER_METHOD = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Monitoring requests these every few seconds; only failures are of interest.
ROUTINE = frozenset({"/healthz", "/readyz", "/metrics"})


class AccessLogMiddleware:
    """Counts, times and logs every request by its route, without values chosen by the client."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = ResponseStatus(send)
        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, status)
        except Exception:
            if status.value == NO_RESPONSE:
                status.value = UNHANDLED_ERROR
            raise
        finally:
            self.metrics.in_flight.dec()
            self._report(scope, status.value, time.perf_counter() - started)

    def _report(self, scope: Scope, status: str, seconds: float) -> None:
        """Update the metrics and write the log line. The client is logged by name, not by key."""
        method, route, problem = method_of(scope), route_of(scope), scope.get("problem")
        self.metrics.requests.labels(method, route, status).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if problem:
            self.metrics.problems.labels(problem).inc()
        routine = route in ROUTINE and status in ("200", "503")
        level = logging.DEBUG if routine else logging.INFO
        if not log.isEnabledFor(level):
            return
        fields = {"method": method, "route": route, "status": status, "seconds": round(seconds, 6)}
        optional = {"client": scope.get("client_name"), "problem": problem}
        present = {name: value for name, value in optional.items() if value}
        log.log(level, "request", extra=fields | present)


def method_of(scope: Scope) -> str:
    """Return the HTTP method of a request, or "other"; a WebSocket begins with a GET."""
    method: str = scope.get("method", "GET")
    return method if method in METHODS else OTHER_METHOD


def route_of(scope: Scope) -> str:
    """Return the path template of the route that matched the request, or "none"."""
    route: str = getattr(scope.get("route"), "path", NO_ROUTE)
    return route

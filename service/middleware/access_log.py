"""What is told of every request once it is over: to the metrics, and as one line of the log."""

import logging
import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

NO_ROUTE = "none"  # one word for all paths that do not exist, lest a scanner fills the memory
NO_ANSWER = "none"  # the connection ended before there was one
SURPRISE = "500"  # what the framework answers, further out than we can see
OTHER_METHOD = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asked for every few seconds by machines: of interest only if they go wrong.
ROUTINE = frozenset({"/healthz", "/readyz", "/metrics"})


class AccessLogMiddleware:
    """Counts, times and logs every request: which route was asked, never in which words."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = NO_ANSWER

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, sending)
        except Exception:
            status = SURPRISE if status == NO_ANSWER else status
            raise
        finally:
            self.metrics.in_flight.dec()
            self._tell(Told.of(scope, status, time.perf_counter() - began), scope)

    def _tell(self, told: "Told", scope: Scope) -> None:
        self.metrics.requests.labels(told.method, told.route, told.status).inc()
        self.metrics.seconds.labels(told.route).observe(told.seconds)
        if problem := scope.get("problem"):
            self.metrics.problems.labels(problem).inc()
        level = logging.DEBUG if told.is_routine else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "request", extra=told.fields(scope))


@dataclass(frozen=True)
class Told:
    """A request in words of ours: nothing in it was chosen by the client."""

    method: str
    route: str
    status: str
    seconds: float

    @classmethod
    def of(cls, scope: Scope, status: str, seconds: float) -> "Told":
        return cls(method_of(scope), route_of(scope), status, seconds)

    @property
    def is_routine(self) -> bool:
        return self.route in ROUTINE and self.status in ("200", "503")

    def fields(self, scope: Scope) -> dict[str, object]:
        """For the log. The client by name, if it has one; its key is nobody's business."""
        fields: dict[str, object] = {
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "seconds": round(self.seconds, 6),
        }
        known = {"client": scope.get("client_name"), "problem": scope.get("problem")}
        return fields | {name: value for name, value in known.items() if value}


def method_of(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in METHODS else OTHER_METHOD


def route_of(scope: Scope) -> str:
    """The template of the route that took the request."""
    route: str = getattr(scope.get("route"), "path", NO_ROUTE)
    return route

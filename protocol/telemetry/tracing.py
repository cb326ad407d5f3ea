"""Traces of a request through both programs. Off unless an endpoint is set.

    POST /v1/txt2img ─ submit ─ job ─┬ queue
          (service)       (worker)   ├ encode
                                     ├ denoise   one event per step
                                     ├ decode
                                     └ deliver

The packages of OpenTelemetry are the extra `tracing`, and are loaded only when it is on.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

Attributes = Mapping[str, str | int | float]
Finish = Callable[[str, str], None]  # called with a request's route and status


@dataclass(frozen=True)
class PastSpan:
    """A finished span. Times in seconds since 1970; events are (time, name, attributes)."""

    name: str
    began: float
    ended: float
    attributes: Attributes = field(default_factory=dict)
    events: tuple[tuple[float, str, Attributes], ...] = ()
    children: tuple["PastSpan", ...] = ()


class Tracing:
    """Tracing that does nothing; `protocol.telemetry.otel` has the other."""

    on = False

    @contextmanager
    def request(self, method: str, traceparent: str) -> Iterator[Finish]:
        """Trace an HTTP request, below the client's own span if it sent one.

        Yields a function to be called with the route and the status.
        """
        yield lambda route, status: None

    @contextmanager
    def span(self, name: str, attributes: Attributes) -> Iterator[None]:
        """Trace a part of the current span."""
        yield

    def traceparent(self) -> str:
        """Return the current span in W3C form, for the next program; "" if there is none."""
        return ""

    def record(self, span: PastSpan, traceparent: str) -> None:
        """Record a finished span below the span of `traceparent`."""

    def close(self) -> None:
        """Send the spans that remain."""


NO_TRACING = Tracing()

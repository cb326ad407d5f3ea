"""Traces of a request through both programs. Off unless there is an endpoint to send them to.

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
Finish = Callable[[str, str], None]  # told a request's route and status


@dataclass(frozen=True)
class PastSpan:
    """Something that is over. Times in seconds since 1970; events are (time, name, attributes)."""

    name: str
    began: float
    ended: float
    attributes: Attributes = field(default_factory=dict)
    events: tuple[tuple[float, str, Attributes], ...] = ()
    children: tuple["PastSpan", ...] = ()


class Tracing:
    """Traces nothing; `protocol.telemetry.otel` has the one that does."""

    on = False

    @contextmanager
    def request(self, method: str, traceparent: str) -> Iterator[Finish]:
        """Around an HTTP request, below the client's own span if it names one.

        The block is given a function to tell the route and the status by.
        """
        yield lambda route, status: None

    @contextmanager
    def span(self, name: str, attributes: Attributes) -> Iterator[None]:
        """Around a part of what is being traced."""
        yield

    def traceparent(self) -> str:
        """The current span as W3C writes it, for who goes on with the work; "" if there is none."""
        return ""

    def record(self, span: PastSpan, traceparent: str) -> None:
        """Tell of something that is over, below the span that `traceparent` names."""

    def close(self) -> None:
        """Send what is still to be sent."""


NO_TRACING = Tracing()

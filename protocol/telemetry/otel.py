"""Tracing by OpenTelemetry. The only file that imports it, loaded only when tracing is on."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from protocol.telemetry.tracing import Attributes, Finish, PastSpan, Tracing

NANOSECONDS = 1_000_000_000
W3C = TraceContextTextMapPropagator()
SERVER_ERRORS = "5"  # the first digit of the status


class OpenTelemetry(Tracing):
    """Tracing that sends spans in batches, from its own thread, by OTLP over HTTP.

    The variables of OpenTelemetry set sampling and batching (OTEL_TRACES_SAMPLER, OTEL_BSP_…).
    """

    on = True

    def __init__(self, program: str, endpoint: str) -> None:
        resource = Resource.create({SERVICE_NAME: f"darkroom-{program}"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("darkroom")

    @contextmanager
    def request(self, method: str, traceparent: str) -> Iterator[Finish]:
        with self._tracer.start_as_current_span(
            method, _below(traceparent), SpanKind.SERVER, record_exception=False
        ) as span:

            def finish(route: str, status: str) -> None:
                span.update_name(f"{method} {route}")
                span.set_attribute("http.request.method", method)
                span.set_attribute("http.route", route)
                if status.isdigit():
                    span.set_attribute("http.response.status_code", int(status))
                if status.startswith(SERVER_ERRORS):
                    span.set_status(StatusCode.ERROR)

            yield finish

    @contextmanager
    def span(self, name: str, attributes: Attributes) -> Iterator[None]:
        # The message of an exception may quote a prompt; the status of the request shows the error.
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ):
            yield

    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        W3C.inject(carrier)
        return carrier.get("traceparent", "")

    def record(self, span: PastSpan, traceparent: str) -> None:
        self._record(span, _below(traceparent), SpanKind.CONSUMER)

    def close(self) -> None:
        self._provider.shutdown()

    def _record(self, past: PastSpan, parent: Context, kind: SpanKind) -> None:
        span = self._tracer.start_span(
            past.name, parent, kind, past.attributes, start_time=_nanoseconds(past.began)
        )
        for at, name, attributes in past.events:
            span.add_event(name, attributes, _nanoseconds(at))
        for child in past.children:
            self._record(child, set_span_in_context(span, Context()), SpanKind.INTERNAL)
        span.end(_nanoseconds(past.ended))


def _below(traceparent: str) -> Context:
    """Return the context of a remote parent; an empty one if the text is malformed."""
    return W3C.extract({"traceparent": traceparent}, Context())


def _nanoseconds(seconds: float) -> int:
    return int(seconds * NANOSECONDS)

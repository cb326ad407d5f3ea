"""Start tracing where an endpoint is set."""

from protocol.startup import InvalidSettings
from protocol.telemetry.tracing import NO_TRACING, Tracing


class TracingMissing(InvalidSettings):
    """An endpoint for traces is set, but OpenTelemetry is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: "
            "install darkroom[tracing], or unset it"
        )


def start_tracing(program: str, endpoint: str | None) -> Tracing:
    """Return tracing to the OTLP collector at `endpoint`, or none. Raises TracingMissing."""
    if endpoint is None:
        return NO_TRACING
    try:
        from protocol.telemetry.otel import OpenTelemetry
    except ImportError as error:
        raise TracingMissing from error
    return OpenTelemetry(program, endpoint)

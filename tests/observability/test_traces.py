"""Tests of traces: one connected trace for an image, as an OTLP collector receives it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.cli.processes import wait_until
from tests.observability.programs import FAKE_WORKER, observed_stack

STEPS = 5
CLIENT_TRACE, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """A collector of spans, with the name of each span's service."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[tuple[str, Span]] = []

    def receive(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(named["service.name"], span) for span in scope.spans]

    def names(self) -> set[str]:
        return {span.name for _, span in self.spans}


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.receive(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def test_image_is_one_trace_from_http_to_denoising(tmp_path: Path) -> None:
    with collecting() as collector:
        tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with observed_stack(tmp_path, FAKE_WORKER, **tracing) as stack:
            body = {"prompt": "canary", "steps": STEPS, "width": 64, "height": 64}
            headers = {"traceparent": f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"}
            response = stack.client.post("/v1/txt2img", json=body, headers=headers)
            response.raise_for_status()
            whole = {"POST /v1/txt2img", "submit", "job"}
            whole |= {"queue", "encode", "denoise", "decode", "deliver"}
            wait_until(lambda: whole <= collector.names(), "all spans have arrived")
        assert collector.names() == whole
        assert len(collector.spans) == len(whole)
        programs = {span.name: program for program, span in collector.spans}
        spans = {span.name: span for _, span in collector.spans}
        assert {span.trace_id.hex() for span in spans.values()} == {CLIENT_TRACE}
        by_id = {span.span_id: name for name, span in spans.items()}
        parents = {name: by_id.get(span.parent_span_id) for name, span in spans.items()}
        assert parents == {
            "POST /v1/txt2img": None,
            "submit": "POST /v1/txt2img",
            "job": "submit",
            **dict.fromkeys(("queue", "encode", "denoise", "decode", "deliver"), "job"),
        }
        assert spans["POST /v1/txt2img"].parent_span_id.hex() == CLIENT_SPAN
        assert programs["submit"] == "darkroom-api"
        assert programs["denoise"] == "darkroom-worker"
        assert [event.name for event in spans["denoise"].events] == ["step"] * STEPS
        for name in ("queue", "encode", "denoise", "decode", "deliver"):
            assert spans["job"].start_time_unix_nano <= spans[name].start_time_unix_nano
            assert spans[name].start_time_unix_nano <= spans[name].end_time_unix_nano
            assert spans[name].end_time_unix_nano <= spans["job"].end_time_unix_nano
        job = response.json()["id"]
        assert any(item.value.string_value == job for item in spans["job"].attributes)
        assert "canary" not in str(collector.spans)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("program", ["service", "worker"])
def test_exporter_is_not_loaded_without_an_endpoint(program: str) -> None:
    code = (
        f"import {program}.__main__, protocol.telemetry.tracing, sys;"
        "protocol.telemetry.setup.start_tracing('x', None);"
        "print({'protocol.telemetry.otel', 'opentelemetry.exporter'} & sys.modules.keys())"
    )
    ran = run(code)
    assert ran.stdout.strip() == "set()", ran.stderr


def test_missing_exporter_is_an_error_with_a_hint() -> None:
    # The packages that FastAPI depends on are installed; the exporter is not.
    code = (
        "import sys; sys.modules['opentelemetry.exporter'] = None;"
        "from service.__main__ import main; main()"
    )
    ran = run(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
    assert ran.returncode == 1
    assert "install darkroom[tracing]" in ran.stderr

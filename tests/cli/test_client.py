"""The client against servers that answer as no Darkroom does: one line, no traceback."""

import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps
from pathlib import Path

import pytest

from darkroom.__main__ import main

HEALTH = '{"status": "ok"}'
HTML = "<html>Welcome to nginx!</html>"
JOB = "0123abcd"
PROBLEM = "application/problem+json"

Answers = dict[str, tuple[int, str, str]]  # path -> status, content type, body


@contextmanager
def server(answers: Answers) -> Iterator[str]:
    """Serve fixed answers; "" answers every other path, and without it the connection closes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path) or answers.get("")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if answer is None:
                self.close_connection = True
                return
            status, content_type, body = answer
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_DELETE = do_GET

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()


def json(body: str, status: int = 200) -> tuple[int, str, str]:
    return status, "application/json", body


def darkroom(**answers: str) -> Answers:
    """Return the answers of a Darkroom with one job: its submission, its events, its state."""
    return {
        "/healthz": json(HEALTH),
        "/v1/txt2img": json(answers.get("submitted", f'{{"id": "{JOB}"}}'), 202),
        f"/v1/jobs/{JOB}/events": (
            *(200, "text/event-stream"),
            answers.get("events", f'data: {{"id": "{JOB}", "state": "finished"}}\n\n'),
        ),
        f"/v1/jobs/{JOB}": json(answers.get("job", f'{{"id": "{JOB}", "state": "finished"}}')),
        "": json(answers.get("other", "image")),
    }


def finished(**fields: object) -> str:
    """Return a finished job with one image."""
    image = {"index": 0, "seed": 1, "width": 8, "height": 8, "format": "png", **fields}
    return dumps({"id": JOB, "state": "finished", "result": {"images": [image]}})


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({}, "no Darkroom answers at"),
        ({"": (200, "text/html", HTML)}, "no Darkroom answers at"),
        ({"": (302, "text/html", "")}, "no Darkroom answers at"),
        ({"": (500, PROBLEM, HTML)}, "no Darkroom answers at"),
        ({"/healthz": json(HEALTH), "": (401, "text/html", HTML)}, "/v1/txt2img answered 401"),
        (
            {
                "/healthz": json(HEALTH),
                "": (401, "application/problem+json", '{"detail": "no key"}'),
            },
            "no key",
        ),
        ({"/healthz": json(HEALTH), "": (200, "text/html", HTML)}, "not as Darkroom does"),
        ({"/healthz": json(HEALTH), "": (302, "text/html", "")}, "/v1/txt2img answered 302"),
        ({"/healthz": json(HEALTH)}, "no Darkroom answers at"),
        (darkroom(submitted='{"id": "../admin"}'), "not as Darkroom does"),
        (darkroom(submitted="[]"), "not as Darkroom does"),
        (darkroom(events="data: nonsense\n\n"), "not as Darkroom does"),
        (darkroom(events='data: {"state": "on fire"}\n\n'), "not as Darkroom does"),
        (darkroom(job=f'{{"id": "{JOB}", "state": "failed"}}'), "the job is failed"),
        (darkroom(), "the job is finished"),
        (darkroom(events=""), "have ended early"),
        (darkroom(job=finished(index="../x")), "not as Darkroom does"),
        (darkroom(job=finished(format="../x")), "not as Darkroom does"),
        (darkroom(job=finished(extras=[{"kind": "../x", "format": "png"}])), "not as Darkroom"),
    ],
)
def test_generate_tells_wrong_answers(
    answers: Answers, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.png"
    with server(answers) as url:
        assert main(["generate", "a cat", "-o", str(output), "--url", url]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("darkroom: ")
    assert message in last
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("body", [HTML, "[]", "{}", '{"models": [{"name": "a"}]}', "null"])
def test_models_tells_wrong_answers(body: str, capsys: pytest.CaptureFixture[str]) -> None:
    with server({"": json(body)}) as url:
        assert main(["models", "--url", url]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"darkroom: {url}")
    assert "not as Darkroom does" in line


def test_image_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    output = tmp_path / "out.png"
    output.write_text("old")
    with server(darkroom(job=finished(), other="image" * 1000)) as url:
        command = [
            sys.executable,
            "-m",
            "darkroom",
            "generate",
            "a cat",
            "-o",
            output,
            "--url",
            url,
        ]
        line = f"ulimit -f 1; {shlex.join(map(str, command))}"
        ran = subprocess.run(["bash", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == f"darkroom: {output} cannot be written: File too large"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]

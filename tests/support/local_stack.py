"""A local stack for tests, started by `darkroom up`: embedded Redis, a worker and the API."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import httpx

from tests.support.redis_server import free_port

READY_WITHIN_S = 180.0
QUICK = {"DARKROOM_WORKER_EXECUTOR": "eager", "DARKROOM_WORKER_TUNE_S": "0"}


@contextmanager
def running_stack(**settings: str) -> Iterator[str]:
    """Run a local stack with these environment variables; yields its address.

    By default its worker uses the eager executor: converting and measuring the networks takes
    longer with a tiny model than everything else in a test.
    """
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = {**os.environ, **QUICK, **settings, "PORT": str(port)}
    with TemporaryDirectory(prefix="darkroom-") as home:
        command = [sys.executable, "-m", "darkroom", "up", "--home", home]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                wait_until_ready(url, process)
                yield url
            finally:
                process.send_signal(signal.SIGTERM)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the stack ended before it was ready"
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not ready within {READY_WITHIN_S} s")

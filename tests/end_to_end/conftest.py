"""A whole running Darkroom: embedded Redis, a worker with a tiny network, the API over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import httpx
import pytest

from tests.redis_server import free_port
from tests.tiny_models import write_tiny_sd

READY_WITHIN_S = 120.0


@pytest.fixture(scope="session")
def darkroom_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running house; the same one for every test here."""
    model = write_tiny_sd(tmp_path_factory.mktemp("models") / "tiny")
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = {**os.environ, "DARKROOM_MODEL": str(model), "PORT": str(port)}
    with TemporaryDirectory(prefix="darkroom-") as home:
        command = [sys.executable, "-m", "darkroom", "up", "--home", home]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                _wait_until_ready(url, process)
                yield url
            finally:
                process.send_signal(signal.SIGTERM)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the house fell before it was ready"
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not ready within {READY_WITHIN_S} s")


@pytest.fixture
def client(darkroom_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=darkroom_url, timeout=60) as client:
        yield client

"""The whole service in a subprocess, with everything fixed that the bytes of an image depend on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.golden.inputs import write_models_home

READY_WITHIN_S = 300.0
REQUEST_TIMEOUT_S = 600.0

# No executor, kernel or precision is chosen by measurement. The number of threads is fixed too,
# because it can change the order in which sums are taken; one thread also loses least on a busy
# machine. Sides above 128 pixels are decoded in tiles.
SETTINGS = {
    "DARKROOM_DEVICE": "cpu",
    "DARKROOM_WORKER_ATTENTION": "sdpa",
    "DARKROOM_WORKER_EXECUTOR": "eager",
    "DARKROOM_WORKER_PRECISION": "fp32",
    "DARKROOM_WORKER_TUNE_S": "0",
    "DARKROOM_WORKER_VAE_TILE": "128",
    "DARKROOM_WORKER_METRICS_PORT": "0",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
OWN_PREFIXES = ("DARKROOM_", "OTEL_")
OWN_NAMES = {"REDIS_URL", "OBJECT_STORE_URL", "HOST", "PORT"}


@contextmanager
def running_service() -> Iterator[httpx.Client]:
    """Run `darkroom up` in a temporary home while the block runs; yield a client of its API."""
    with TemporaryDirectory(prefix="darkroom-golden-") as name:
        home = Path(name)
        write_models_home(home / "models")
        port = free_port()
        command = [sys.executable, "-m", "darkroom", "up", "--home", str(home / "home")]
        with subprocess.Popen(
            command, env=environment(home, port), stdout=subprocess.DEVNULL
        ) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                with httpx.Client(
                    base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False
                ) as client:
                    wait_until_ready(client, process)
                    yield client
            finally:
                process.send_signal(signal.SIGTERM)


def environment(home: Path, port: int) -> dict[str, str]:
    """Return the variables of the service: those of this process without any setting of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in OWN_NAMES and not name.startswith(OWN_PREFIXES)
    }
    folders = {
        "DARKROOM_MODELS_HOME": str(home / "models"),
        "DARKROOM_WORKER_CACHE": str(home / "cache"),
    }
    return kept | SETTINGS | folders | {"PORT": str(port)}


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    """Wait until the service is ready and offers the models that were written for it.

    Raises RuntimeError if it ends or takes longer than `READY_WITHIN_S`.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with status {process.returncode}")
        if is_ready(client):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the service was not ready within {READY_WITHIN_S:g} s")


def is_ready(client: httpx.Client) -> bool:
    """Return whether the service can serve every golden request."""
    try:
        if not client.get("/readyz").is_success:
            return False
        [card] = client.get("/v1/models").json()["models"]
    except httpx.TransportError:
        return False
    offered = {*card["loras"], *card["embeddings"], *card["controlnets"]}
    return offered == {"grain", "paint", "turbo", "goldenword", "stripes"}


def free_port() -> int:
    """Return a TCP port of the loopback that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

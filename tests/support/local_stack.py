"""A local stack for tests: the programs of `darkroom up`, Redis, a worker and the API."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.support.forked_program import ForkedProgram
from tests.support.redis_server import RedisServer, free_port

READY_WITHIN_S = 180.0
QUICK = {"DARKROOM_WORKER_EXECUTOR": "eager", "DARKROOM_WORKER_TUNE_S": "0"}


@contextmanager
def running_stack(logs: Path | None = None, /, **settings: str) -> Iterator[str]:
    """Run a local stack with these environment variables; yields its address.

    The programs write `worker.log` and `service.log` in the folder `logs`, if given. By default
    the worker uses the eager executor: converting and measuring the networks takes longer with a
    tiny model than everything else in a test.
    """
    with (
        TemporaryDirectory(prefix="darkroom-") as folder,
        RedisServer() as redis,
        ExitStack() as programs,
    ):
        environment = {
            **os.environ,
            **QUICK,
            "REDIS_URL": redis.url,
            "OBJECT_STORE_URL": (Path(folder) / "images").as_uri(),
            "HOST": "127.0.0.1",
            "PORT": str(port := free_port()),
            "DARKROOM_WORKER_METRICS_PORT": "0",
            **settings,
        }
        outputs = {
            module: (logs or Path(folder)) / f"{module}.log" for module in ("worker", "service")
        }
        started = {
            programs.enter_context(running_program(module, environment, output)): output
            for module, output in outputs.items()
        }
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, started)
        yield url


@contextmanager
def running_program(
    module: str, environment: Mapping[str, str], output: Path
) -> Iterator[ForkedProgram]:
    """Run a program and stop it in order."""
    with ForkedProgram(module, environment=environment, output=output) as program:
        try:
            yield program
        finally:
            program.send_signal(signal.SIGTERM)


def wait_until_ready(url: str, programs: Mapping[ForkedProgram, Path]) -> None:
    """Wait until the API has a worker; `programs` have their outputs."""
    deadline = time.monotonic() + READY_WITHIN_S
    with httpx.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < deadline:
            for program, output in programs.items():
                assert program.poll() is None, output.read_text()
            try:
                if client.get("/readyz").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
    raise AssertionError(f"not ready within {READY_WITHIN_S} s")

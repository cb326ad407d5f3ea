"""A house of single programs, each a child process that a test may stop, hang and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from darkroom.processes.parent_death import bound_to_parent
from tests.cli.processes import wait_until
from tests.observability.alert_model import CARD
from tests.support.redis_server import RedisServer, free_port

DRAWING, WORKER, API = "tests.observability.fake_gpu_worker", "worker", "service"
QUICK = {
    "DARKROOM_WORKER_LEASE_S": "0.9",
    "DARKROOM_WORKER_HEARTBEAT_S": "0.2",
    "DARKROOM_WORKER_REAP_S": "0.2",
    "DARKROOM_LOG_FORMAT": "json",
}


class Program:
    """`python -m module`, with a port of its own, and a log of everything it prints."""

    def __init__(self, module: str, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.log = folder / f"{module.rpartition('.')[2]}-{self.port}.log"
        self._command = [sys.executable, "-m", module]
        port = {"HOST": "127.0.0.1", "PORT": str(self.port)}
        metrics = {"DARKROOM_WORKER_METRICS_PORT": str(self.port)}
        self._environment = {**os.environ, **QUICK, **port, **metrics, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                bound_to_parent(self._command), env=self._environment, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.send(number)
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Killed, started again, and answering Prometheus."""
        self.end()
        self.start()
        wait_until(self.answers, f"{self.log} is written by a program that serves")

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://{self.address}/metrics", timeout=5).is_success
        except httpx.TransportError:
            return False


class LocalStack:
    """One Redis, one API, and the workers asked for."""

    def __init__(self, folder: Path, redis: RedisServer, api: Program, workers: list[Program]):
        self.folder = folder
        self.redis = redis
        self.api = api
        self.workers = workers
        self.client = httpx.Client(base_url=f"http://{api.address}", timeout=30)

    @property
    def targets(self) -> dict[str, list[str]]:
        """For Prometheus."""
        workers = [worker.address for worker in self.workers]
        return {"api": [self.api.address], "worker": workers}

    @property
    def store(self) -> Path:
        return self.folder / "pictures"

    def draw(self, prompt: str = "a dog", wait: bool = True, **fields: object) -> httpx.Response:
        """Ask for a picture, and wait for it or not."""
        body = {"prompt": prompt, "width": 64, "height": 64, **fields}
        headers = {} if wait else {"Prefer": "respond-async"}
        return self.client.post("/v1/txt2img", json=body, headers=headers)

    def ready(self) -> bool:
        try:
            found = self.client.get("/readyz").json().get("workers", ())
        except httpx.TransportError:
            return False
        return sum(worker["state"] in ("ready", "busy") for worker in found) == len(self.workers)


@contextmanager
def local_stack(folder: Path, *modules: str, **environment: str) -> Iterator[LocalStack]:
    """A house whose workers are these programs, once all of them are ready."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        shared = {
            "REDIS_URL": redis.url,
            "OBJECT_STORE_URL": (folder / "pictures").as_uri(),
            "GPU_IS_FULL": str(folder / "gpu-is-full"),
            "DARKROOM_DEFAULT_MODEL": CARD.name,
            **environment,
        }
        api = Program(API, folder, **shared)
        workers = [Program(module, folder, **shared) for module in modules]
        for program in (api, *workers):
            stack.callback(program.end)
            program.start()
        house = LocalStack(folder, redis, api, workers)
        stack.callback(house.client.close)
        wait_until(house.ready, f"a house is ready; see {folder}")
        yield house

"""A stack of programs in child processes that a test can stop, suspend and restart."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.cli.processes import wait_until
from tests.observability.alert_model import CARD
from tests.support.forked_program import ForkedProgram
from tests.support.redis_server import RedisServer, free_port

FAKE_WORKER, WORKER, API = "tests.observability.fake_gpu_worker", "worker", "service"
QUICK = {
    "DARKROOM_WORKER_LEASE_S": "0.9",
    "DARKROOM_WORKER_HEARTBEAT_S": "0.2",
    "DARKROOM_WORKER_REAP_S": "0.2",
    "DARKROOM_LOG_FORMAT": "json",
}


class Program:
    """A program `python -m module`, with its own port and a log file of its output."""

    def __init__(self, module: str, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.log = folder / f"{module.rpartition('.')[2]}-{self.port}.log"
        self._module = module
        port = {"HOST": "127.0.0.1", "PORT": str(self.port)}
        metrics = {"DARKROOM_WORKER_METRICS_PORT": str(self.port)}
        self._environment = {**os.environ, **QUICK, **port, **metrics, **environment}
        self.process: ForkedProgram | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = ForkedProgram(self._module, environment=self._environment, output=self.log)

    def send(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.send(number)
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Kill the program, start it again and wait until it serves metrics."""
        self.end()
        self.start()
        wait_until(self.serves_metrics, f"the program of {self.log} serves metrics")

    def serves_metrics(self) -> bool:
        try:
            return httpx.get(f"http://{self.address}/metrics", timeout=5).is_success
        except httpx.TransportError:
            return False


class ObservedStack:
    """One Redis, one API and the given workers."""

    def __init__(self, folder: Path, redis: RedisServer, api: Program, workers: list[Program]):
        self.folder = folder
        self.redis = redis
        self.api = api
        self.workers = workers
        self.client = httpx.Client(base_url=f"http://{api.address}", timeout=30)

    @property
    def targets(self) -> dict[str, list[str]]:
        """Addresses for Prometheus, by job."""
        workers = [worker.address for worker in self.workers]
        return {"api": [self.api.address], "worker": workers}

    @property
    def store(self) -> Path:
        return self.folder / "images"

    def generate(
        self, prompt: str = "a dog", wait: bool = True, **fields: object
    ) -> httpx.Response:
        """Request an image, and wait for it unless `wait` is False."""
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
def observed_stack(folder: Path, *modules: str, **environment: str) -> Iterator[ObservedStack]:
    """Start Redis, an API and these modules as workers, and wait until all are ready."""
    with ExitStack() as exit_stack:
        redis = exit_stack.enter_context(RedisServer())
        shared = {
            "REDIS_URL": redis.url,
            "OBJECT_STORE_URL": (folder / "images").as_uri(),
            "GPU_IS_FULL": str(folder / "gpu-is-full"),
            "DARKROOM_DEFAULT_MODEL": CARD.name,
            **environment,
        }
        api = Program(API, folder, **shared)
        workers = [Program(module, folder, **shared) for module in modules]
        for program in (api, *workers):
            exit_stack.callback(program.end)
            program.start()
        stack = ObservedStack(folder, redis, api, workers)
        exit_stack.callback(stack.client.close)
        wait_until(stack.ready, f"the stack is ready; see {folder}")
        yield stack

"""The programs of one running Darkroom, each to be killed, frozen and started as one likes.

Two APIs and three workers, as an operator would run them, with a tiny network of random weights.
All reach Redis through a proxy and keep pictures in a bucket that can be made to fail.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from darkroom.processes.parent_death import bound_to_parent
from tests.chaos.bucket import Bucket
from tests.chaos.journal import Journal, read_journal
from tests.chaos.proxy import Proxy
from tests.support.redis_server import RedisServer, free_port
from tests.support.tiny_models import write_tiny_sd

READY_WITHIN_S = 120.0
APIS, WORKERS = 2, 3
# Each worker would take what it measures fastest, and under load no two measure the same. Only the
# same arithmetic gives the same bytes.
ALIKE = {
    "DARKROOM_WORKER_EXECUTOR": "eager",
    "DARKROOM_WORKER_PRECISION": "fp32",
    "DARKROOM_WORKER_ATTENTION": "sdpa",
}


class Program:
    """One of our programs. `pid` is that of its latest start; what it says goes to `log`."""

    def __init__(self, name: str, module: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = [sys.executable, "-m", module]
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._meant_to_run = False

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def fell(self) -> bool:
        """Whether it has ended although nobody wanted it to."""
        return self._meant_to_run and not self.runs

    def start(self) -> None:
        # Tied to us, so that a killed run leaves nothing. The tie is to a thread: only one that
        # lasts will do.
        lasting = threading.current_thread() is threading.main_thread()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                bound_to_parent(self._command) if lasting else self._command,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        self._meant_to_run = True

    def send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process
        self._meant_to_run = False
        self._process.kill()
        self._process.wait()

    def ask_to_stop(self) -> None:
        """Let it end in order; `runs` tells when it has."""
        self._meant_to_run = False
        self.send(signal.SIGTERM)


@dataclass(frozen=True)
class LocalStack:
    """Everything that runs, and everything that can be done to it."""

    redis: RedisServer
    api_proxy: Proxy  # between the APIs and Redis
    worker_proxy: Proxy  # between the workers and Redis
    bucket: Bucket
    apis: list[Program]
    workers: list[Program]
    ports: list[int]  # of the APIs

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    @property
    def programs(self) -> list[Program]:
        return [*self.apis, *self.workers]

    def journal(self) -> Journal:
        return read_journal(self.redis.folder)

    def wait_until_ready(self) -> None:
        """Until every API sees every worker serve."""
        wait_for(lambda: all(self._serving(url) == len(self.workers) for url in self.urls))

    def _serving(self, url: str) -> int:
        """Workers that an API knows to serve."""
        fallen = [program for program in self.programs if program.fell]
        assert not fallen, "".join(program.log.read_text() for program in fallen)
        try:
            answer = httpx.get(f"{url}/readyz")
        except httpx.TransportError:
            return 0
        if not answer.is_success:
            return 0
        return sum(worker["state"] in ("ready", "busy") for worker in answer.json()["workers"])


@contextmanager
def local_stack(folder: Path, appendfsync: str, **settings: str) -> Iterator[LocalStack]:
    """Start everything below `folder` and wait until it serves; `settings` go to all programs."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(appendfsync=appendfsync))
        api_proxy = stack.enter_context(Proxy(redis.port))
        worker_proxy = stack.enter_context(Proxy(redis.port))
        bucket = stack.enter_context(Bucket())
        common = {
            **bucket.environment,
            "DARKROOM_MODEL": str(write_tiny_sd(folder / "tiny")),
            "DARKROOM_DEVICE": "cpu",
            "DARKROOM_WORKER_METRICS_PORT": "0",
            "OMP_NUM_THREADS": "1",  # several workers share few cores
            **ALIKE,
            "DARKROOM_WORKER_CACHE": str(folder / "cache"),
            "DARKROOM_WORKER_TUNE_S": "1",
            **settings,
        }
        ports = [free_port() for _ in range(APIS)]
        apis = [
            Program(
                f"api-{number}",
                "service",
                {**common, "REDIS_URL": api_proxy.url, "PORT": str(port)},
                folder / f"api-{number}.log",
            )
            for number, port in enumerate(ports)
        ]
        workers = [
            Program(
                f"worker-{number}",
                "worker",
                {**common, "REDIS_URL": worker_proxy.url},
                folder / f"worker-{number}.log",
            )
            for number in range(WORKERS)
        ]
        house = LocalStack(redis, api_proxy, worker_proxy, bucket, apis, workers, ports)
        for program in house.programs:
            program.start()
            stack.callback(program.kill)
        house.wait_until_ready()
        yield house


def wait_for(condition: Callable[[], bool], within_s: float = READY_WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {within_s} s"
        time.sleep(0.2)

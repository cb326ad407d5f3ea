"""A running Darkroom whose programs can be killed, frozen and restarted.

It has two APIs and three workers, as an operator would run them, with a tiny model of random
weights. All reach Redis through a proxy and store images in a bucket that can fail. The clocks of
one API and two workers are an hour off from the start.
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
from tests.support.forked_program import ForkedProgram
from tests.support.redis_server import RedisServer, free_port
from tests.support.tiny_models import write_tiny_sd

READY_WITHIN_S = 120.0
HOUR_S = 3600.0
# Seconds that the clock of each program is off; Redis' is right.
API_CLOCKS_S = (HOUR_S, 0.0)
WORKER_CLOCKS_S = (-HOUR_S, 0.0, HOUR_S)
# Each worker would choose what it measures as fastest, and under load measurements differ. Only the
# same arithmetic gives the same bytes.
SAME_ARITHMETIC = {
    "DARKROOM_WORKER_EXECUTOR": "eager",
    "DARKROOM_WORKER_PRECISION": "fp32",
    "DARKROOM_WORKER_ATTENTION": "sdpa",
}


class Program:
    """A program; `pid` is that of its latest start, and its output goes to `log`."""

    def __init__(
        self,
        name: str,
        module: str,
        environment: Mapping[str, str],
        log: Path,
        clock_s: float = 0.0,  # that its clock is off
    ) -> None:
        self.name = name
        self.log = log
        self._module = module
        self._clock_s = clock_s
        self._environment = {**os.environ, **environment}
        self._process: ForkedProgram | subprocess.Popen[bytes] | None = None
        self._should_run = False

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def crashed(self) -> bool:
        """True if the program has ended although it was not stopped."""
        return self._should_run and not self.runs

    def start(self) -> None:
        if self._clock_s:
            self._process = self._with_shifted_clock()
        else:
            self._process = ForkedProgram(
                self._module, environment=self._environment, output=self.log
            )
        self._should_run = True

    def _with_shifted_clock(self) -> subprocess.Popen[bytes]:
        """Start a new Python, whose clock is shifted before it imports anything."""
        shifted = ["tests.support.shifted_clock", str(self._clock_s)]
        command = [sys.executable, "-m", *shifted, self._module]
        # Bound to this process, so that a killed run leaves no program. The kernel watches the
        # calling thread, so this needs a thread that lives as long as the process.
        in_main_thread = threading.current_thread() is threading.main_thread()
        with self.log.open("ab") as log:
            return subprocess.Popen(
                bound_to_parent(command) if in_main_thread else command,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """End the program as a crash would."""
        assert self._process
        self._should_run = False
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Send SIGTERM; `runs` is False when the program has ended."""
        self._should_run = False
        self.send(signal.SIGTERM)


@dataclass(frozen=True)
class ChaosStack:
    """The programs, Redis, the bucket and the proxies."""

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
        """Wait until every API reports every worker as ready."""
        wait_for(lambda: all(self._ready_workers(url) == len(self.workers) for url in self.urls))

    def _ready_workers(self, url: str) -> int:
        """Return the number of ready workers in an API's response."""
        crashed = [program for program in self.programs if program.crashed]
        assert not crashed, "".join(program.log.read_text() for program in crashed)
        try:
            response = httpx.get(f"{url}/readyz", timeout=60)
        except httpx.TransportError:
            return 0
        if not response.is_success:
            return 0
        return sum(worker["state"] in ("ready", "busy") for worker in response.json()["workers"])


@contextmanager
def chaos_stack(folder: Path, appendfsync: str, **settings: str) -> Iterator[ChaosStack]:
    """Start everything below `folder` and wait until it is ready; all programs get `settings`."""
    with ExitStack() as exit_stack:
        redis = exit_stack.enter_context(RedisServer(appendfsync=appendfsync))
        api_proxy = exit_stack.enter_context(Proxy(redis.port))
        worker_proxy = exit_stack.enter_context(Proxy(redis.port))
        bucket = exit_stack.enter_context(Bucket())
        common = {
            **bucket.environment,
            "DARKROOM_MODEL": str(write_tiny_sd(folder / "tiny")),
            "DARKROOM_DEVICE": "cpu",
            "DARKROOM_WORKER_METRICS_PORT": "0",
            "OMP_NUM_THREADS": "1",  # several workers share few cores
            **SAME_ARITHMETIC,
            "DARKROOM_WORKER_CACHE": str(folder / "cache"),
            "DARKROOM_WORKER_TUNE_S": "1",
            **settings,
        }
        ports = [free_port() for _ in API_CLOCKS_S]
        apis = [
            Program(
                f"api-{number}",
                "service",
                {**common, "REDIS_URL": api_proxy.url, "PORT": str(port)},
                folder / f"api-{number}.log",
                clock_s,
            )
            for number, (port, clock_s) in enumerate(zip(ports, API_CLOCKS_S, strict=True))
        ]
        workers = [
            Program(
                f"worker-{number}",
                "worker",
                {**common, "REDIS_URL": worker_proxy.url},
                folder / f"worker-{number}.log",
                clock_s,
            )
            for number, clock_s in enumerate(WORKER_CLOCKS_S)
        ]
        stack = ChaosStack(redis, api_proxy, worker_proxy, bucket, apis, workers, ports)
        for program in stack.programs:
            program.start()
            exit_stack.callback(program.kill)
        stack.wait_until_ready()
        yield stack


def wait_for(condition: Callable[[], bool], within_s: float = READY_WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"condition not met within {within_s} s"
        time.sleep(0.2)

"""Benchmark stack: Redis, a given worker and the API, each in its own process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from darkroom.display import BufferedDisplay
from darkroom.processes.process import this_python
from darkroom.processes.stack import local_stack
from protocol.settings import Settings

MEBIBYTE = 2**20


@dataclass(frozen=True)
class BenchmarkStack:
    """A running service: its address and its processes."""

    url: str
    redis: psutil.Process
    worker: psutil.Process
    api: psutil.Process

    @property
    def processes(self) -> dict[str, psutil.Process]:
        return {"api": self.api, "worker": self.worker, "redis": self.redis}

    def memory_mb(self) -> dict[str, float]:
        """Return the resident memory of each process in MiB."""
        return {name: resident_mb(process) for name, process in self.processes.items()}

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds that each process has used since its start."""
        return {name: sum(process.cpu_times()[:2]) for name, process in self.processes.items()}


@asynccontextmanager
async def benchmark_stack(
    worker: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[BenchmarkStack]:
    """Start a local stack in a temporary folder; `environment` holds its settings.

    Its output is printed if it fails.
    """
    display = BufferedDisplay(Console(stderr=True))
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as home, _environment(environment):
        try:
            async with local_stack(Path(home), Settings(port=0), display, worker) as stack:
                yield BenchmarkStack(
                    stack.url,
                    _redis(),
                    _child(worker[1:]),
                    _child(this_python("darkroom", "api")[1:]),
                )
        except BaseException:
            display.print_lines()
            raise
        finally:
            display.close()


def resident_mb(process: psutil.Process) -> float:
    return process.memory_info().rss / MEBIBYTE


def _child(arguments: Sequence[str]) -> psutil.Process:
    """Return the child process whose command line ends with `arguments`."""
    for process in psutil.Process().children():
        if process.cmdline()[-len(arguments) :] == [*arguments]:
            return process
    raise RuntimeError(f"no child process has the arguments {arguments}")


def _redis() -> psutil.Process:
    """Return the child process that is the Redis server, which sets its own command line."""
    for process in psutil.Process().children():
        if "-server" in process.cmdline()[0]:
            return process
    raise RuntimeError("no child process is a Redis server")


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

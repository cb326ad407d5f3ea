"""Programs that start as forks of a process which has already imported them.

A worker imports torch and more for about three seconds of processor time; a fork of a process that
has done so starts in milliseconds. It is a process of its own with its own environment, signals and
exit status, as after `python -m`. Tests of the commands themselves start them as users do.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from darkroom.processes.parent_death import die_with_parent

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "darkroom.__main__",
        "worker.__main__",
        "service.__main__",
        "tests.observability.fake_gpu_worker",
        "tests.worker.consumer.child_worker",
    ]
)


class ForkedProgram:
    """A module that runs as `__main__`; its methods are those of `subprocess.Popen`."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str],  # all of it
        output: Path = Path(os.devnull),
        errors: Path | None = None,  # the output, if None
    ) -> None:
        self._process = FORKS.Process(
            target=_run, args=(module, arguments, dict(environment), output, errors or output)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise TimeoutError(f"process {self.pid} has not ended within {timeout} s")
        return status

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


def run_forked(
    module: str, *arguments: str, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a module to its end, and return its status and its outputs."""
    with TemporaryDirectory(prefix="darkroom-") as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        program = ForkedProgram(
            module, *arguments, environment=environment, output=output, errors=errors
        )
        with program:
            pass
        return subprocess.CompletedProcess(
            [module, *arguments], program.wait(), output.read_text(), errors.read_text()
        )


def _run(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: Path,
    errors: Path,
) -> None:
    if sys.platform == "linux":
        die_with_parent()  # so that a killed test run leaves no program
    os.environ.clear()
    os.environ.update(environment)
    for file, number in ((output, 1), (errors, 2)):
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(descriptor, number)
        os.close(descriptor)
    _use_threads(environment)
    sys.argv[:] = [module, *arguments]
    # Imported above, of which runpy would warn.
    is_package = hasattr(sys.modules.get(module), "__path__")
    sys.modules.pop(f"{module}.__main__" if is_package else module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _use_threads(environment: Mapping[str, str]) -> None:
    """Give torch the threads that it would read from the environment when it is imported.

    The fork has those of the process that imported it, and images differ in the last bit between
    one thread and two.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", torch.get_num_threads())))

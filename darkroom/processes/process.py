"""Child processes that are started, supervised, restarted and stopped in order."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from darkroom.processes.parent_death import bound_to_parent

MIN_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
READY_TIMEOUT_AFTER_EXIT_S = 2.0
STABLE_AFTER_S = 60.0  # a program that ran this long is restarted with the shortest pause again
LONGEST_LINE = 1 << 20  # bytes


class ProgramFailed(RuntimeError):
    """A program ended before it was ready, so a restart would not help."""


@dataclass(frozen=True)
class Program:
    """A command, and the checks and callbacks of its process.

    `ready` returns when the program is ready, or raises `ProgramFailed` if it never will be.
    `show` is called with the program's name and each line it prints. `hint` is the end of the
    error message and tells where to look for the reason. `grace_s` is the time between SIGTERM and
    SIGKILL.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], Awaitable[None]]
    show: Callable[[str, str], None]
    hint: str = "see its output above for the reason"
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: Sequence[int] = ()
    grace_s: float = 10.0


class ManagedProcess:
    """A program that is kept running; the task `watch` ends only by raising `ProgramFailed`."""

    def __init__(self, program: Program) -> None:
        self.is_ready = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self.watch = asyncio.create_task(_keep_running(program, self))

    def stop(self) -> None:
        """Start to stop the program, without a restart; `watch` ends when the program has ended."""
        if not self.watch.cancelling():  # a second cancel would interrupt the first
            self.watch.cancel()

    def terminate(self) -> None:
        """Send SIGTERM if the program runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()


@asynccontextmanager
async def running(program: Program) -> AsyncIterator[ManagedProcess]:
    """Keep `program` running inside the block; stop it on leaving and wait until it has ended."""
    managed = ManagedProcess(program)
    try:
        yield managed
    finally:
        managed.stop()
        with suppress(asyncio.CancelledError, ProgramFailed):
            await managed.watch


async def _keep_running(program: Program, managed: ManagedProcess) -> None:
    """Run the program; if it ends after it was ready, restart it after a pause that doubles."""
    loop = asyncio.get_running_loop()
    backoff_s = MIN_BACKOFF_S
    while True:
        started = loop.time()
        status = await _run_once(program, managed)
        if not managed.is_ready.is_set():
            failure = f"{program.name} {_exit_text(status)} before it was ready"
            raise ProgramFailed(f"{failure}; {program.hint}")
        if loop.time() - started > STABLE_AFTER_S:
            backoff_s = MIN_BACKOFF_S
        program.show(program.name, f"{_exit_text(status)}; starting it again in {backoff_s:g} s")
        await asyncio.sleep(backoff_s)
        backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)


async def _run_once(program: Program, managed: ManagedProcess) -> int:
    """Run the program to its end and return its exit status; if cancelled, stop it first."""
    process = await asyncio.create_subprocess_exec(
        *bound_to_parent([*program.command]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **program.environment},
        limit=LONGEST_LINE,
        pass_fds=program.pass_fds,
        # Ctrl-C at a terminal signals the whole foreground group. In a session of its own, a
        # program gets only the signals that this process sends, in order.
        start_new_session=True,
    )
    assert process.stdout
    managed.process = process
    reading = asyncio.create_task(_show_lines(process.stdout, program))
    exited = asyncio.create_task(process.wait())
    ready = asyncio.ensure_future(program.ready())
    try:
        await asyncio.wait({exited, ready}, return_when=asyncio.FIRST_COMPLETED)
        if exited.done():
            # The program may have published the reason just before it ended; let `ready` read it.
            await asyncio.wait({ready}, timeout=READY_TIMEOUT_AFTER_EXIT_S)
        if ready.done():
            ready.result()
            managed.is_ready.set()
        return await exited
    finally:
        ready.cancel()
        await _stop(process, program.grace_s)
        await asyncio.wait({reading, ready})


async def _show_lines(output: asyncio.StreamReader, program: Program) -> None:
    while True:
        try:
            line = await output.readline()
        except ValueError:  # longer than LONGEST_LINE; asyncio has dropped it
            continue
        if not line:
            return
        program.show(program.name, line.decode(errors="replace").rstrip())


async def _stop(process: asyncio.subprocess.Process, grace_s: float) -> None:
    """Send SIGTERM, and after `grace_s` SIGKILL to the whole session, so that no helper process
    is left."""
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _exit_text(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was killed by {signal.Signals(-status).name}"


def this_python(*arguments: str) -> list[str]:
    """Return the command line that runs a module in this Python interpreter."""
    return [sys.executable, "-m", *arguments]

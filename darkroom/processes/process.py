"""One program of the house as a child process: started, watched, restarted, stopped in order."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from darkroom.processes.parent_death import bound_to_parent

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LAST_WORDS_S = 2.0
STEADY_S = 60.0  # a program that ran this long has earned a quick restart again
LONGEST_LINE = 1 << 20  # bytes


class ProgramFailed(RuntimeError):
    """A program ended before it was ready, so starting it again would not help."""


@dataclass(frozen=True)
class Program:
    """What to run and how to tell that it runs.

    `ready` returns once the program does its work, or raises `ProgramFailed` if it never will.
    `show` is called with the program's name and each line it prints; `advice` says where else to
    look when it fails. `grace_s` is the time between SIGTERM and SIGKILL.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], Awaitable[None]]
    show: Callable[[str, str], None]
    advice: str = "what it printed says why"
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: Sequence[int] = ()
    grace_s: float = 10.0


class ManagedProcess:
    """A program kept running; `watch` ends only by raising `ProgramFailed`."""

    def __init__(self, program: Program) -> None:
        self.is_ready = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self.watch = asyncio.create_task(_keep_running(program, self))

    def stop(self) -> None:
        """Begin to stop it, and start it no more; `watch` ends when it has ended."""
        if not self.watch.cancelling():  # once more would interrupt the stopping
            self.watch.cancel()

    def hurry(self) -> None:
        """Tell it once more to end, in case it takes its time."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()


@asynccontextmanager
async def running(program: Program) -> AsyncIterator[ManagedProcess]:
    """Keep `program` running inside the block; on leaving, it has ended."""
    child = ManagedProcess(program)
    try:
        yield child
    finally:
        child.stop()
        with suppress(asyncio.CancelledError, ProgramFailed):
            await child.watch


async def _keep_running(program: Program, child: ManagedProcess) -> None:
    """Run it; when it dies after it was ready, run it again, waiting longer each time."""
    loop = asyncio.get_running_loop()
    pause_s = FIRST_PAUSE_S
    while True:
        started = loop.time()
        status = await _run_once(program, child)
        if not child.is_ready.is_set():
            failure = f"{program.name} {_ending(status)} before it was ready"
            raise ProgramFailed(f"{failure}; {program.advice}")
        if loop.time() - started > STEADY_S:
            pause_s = FIRST_PAUSE_S
        program.show(program.name, f"{_ending(status)}; starting it again in {pause_s:g} s")
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _run_once(program: Program, child: ManagedProcess) -> int:
    """Run the program to its end and return its exit status; cancelled, stop it first."""
    process = await asyncio.create_subprocess_exec(
        *bound_to_parent([*program.command]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **program.environment},
        limit=LONGEST_LINE,
        pass_fds=program.pass_fds,
        # A Ctrl-C at the terminal goes to the whole foreground group; we pass it on in order.
        start_new_session=True,
    )
    assert process.stdout
    child.process = process
    reading = asyncio.create_task(_show_lines(process.stdout, program))
    ending = asyncio.create_task(process.wait())
    getting_ready = asyncio.ensure_future(program.ready())
    try:
        await asyncio.wait({ending, getting_ready}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            # It may have said why just before it ended; let `ready` hear of it.
            await asyncio.wait({getting_ready}, timeout=LAST_WORDS_S)
        if getting_ready.done():
            getting_ready.result()
            child.is_ready.set()
        return await ending
    finally:
        getting_ready.cancel()
        await _stop(process, program.grace_s)
        await asyncio.wait({reading, getting_ready})


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
    """SIGTERM, then after `grace_s` SIGKILL to its whole session, so that no helper is left."""
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was killed by {signal.Signals(-status).name}"


def this_python(*arguments: str) -> list[str]:
    """Command line of a module of ours, in the interpreter we run in."""
    return [sys.executable, "-m", *arguments]

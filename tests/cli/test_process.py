"""Tests of managed child processes: restart, failure before ready, stop, death of the parent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from darkroom.processes import process
from darkroom.processes.process import Program, ProgramFailed, running
from tests.cli.processes import is_alive, wait_until

IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


class Lines:
    """Lines that a program printed."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._changed = asyncio.Event()

    def show(self, program: str, text: str) -> None:
        self.all.append(text)
        self._changed.set()

    async def wait_for(self, wanted: str, times: int = 1) -> None:
        while self.all.count(wanted) < times:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 30)


def python(
    code: str, lines: Lines, ready: Callable[[], Awaitable[None]], grace_s: float
) -> Program:
    return Program("program", [sys.executable, "-c", code], ready, lines.show, grace_s=grace_s)


async def test_program_that_dies_after_ready_is_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "MIN_BACKOFF_S", 0.01)
    lines = Lines()
    code = "import os, time; print(os.getpid()); print('up'); time.sleep(600)"
    async with running(python(code, lines, lambda: lines.wait_for("up"), 5)) as managed:
        await managed.is_ready.wait()
        os.kill(int(lines.all[0]), signal.SIGKILL)
        await lines.wait_for("up", times=2)
        assert "was killed by SIGKILL; starting it again in 0.01 s" in lines.all
    assert not any(is_alive(int(line)) for line in lines.all if line.isdecimal())


async def test_program_that_ends_before_ready_is_not_restarted() -> None:
    lines = Lines()
    program = python("print('no'); exit(3)", lines, asyncio.Event().wait, 5)  # type: ignore[arg-type]
    async with running(program) as managed:
        with pytest.raises(ProgramFailed, match="program ended with status 3 before it was ready"):
            await managed.watch
    assert lines.all == ["no"]


async def test_program_that_will_never_be_ready_is_stopped() -> None:
    lines = Lines()

    async def never_ready() -> None:
        await lines.wait_for("waiting")
        raise ProgramFailed("no model")

    code = "import time; print('waiting'); time.sleep(600)"
    async with running(python(code, lines, never_ready, 5)) as managed:
        with pytest.raises(ProgramFailed, match="no model"):
            await managed.watch


async def test_program_that_ignores_sigterm_is_killed() -> None:
    lines = Lines()
    program = python(IGNORES_SIGTERM, lines, lambda: lines.wait_for("up"), 0.05)
    async with running(program) as managed:
        await managed.is_ready.wait()
    assert managed.watch.cancelled()


def test_program_bound_to_its_parent_dies_with_it() -> None:
    code = """
import subprocess, time
from darkroom.processes.parent_death import bound_to_parent
print(subprocess.Popen(bound_to_parent(["sleep", "600"])).pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        orphan = int(parent.stdout.readline())
        assert is_alive(orphan)
        parent.kill()
    wait_until(lambda: not is_alive(orphan), "the orphan is gone")

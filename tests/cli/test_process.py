"""A program of the house is restarted, given up, and stopped, and never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from darkroom.processes import process as child
from darkroom.processes.process import Program, ProgramFailed, running
from tests.cli.processes import is_alive, wait_until

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


class Lines:
    """What a program printed, and the wait for a certain line."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._news = asyncio.Event()

    def show(self, program: str, text: str) -> None:
        self.all.append(text)
        self._news.set()

    async def wait_for(self, wanted: str, times: int = 1) -> None:
        while self.all.count(wanted) < times:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 30)


def python(
    code: str, lines: Lines, ready: Callable[[], Awaitable[None]], grace_s: float
) -> Program:
    return Program("it", [sys.executable, "-c", code], ready, lines.show, grace_s=grace_s)


async def test_a_program_that_dies_after_it_was_ready_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child, "FIRST_PAUSE_S", 0.01)
    lines = Lines()
    code = "import os, time; print(os.getpid()); print('up'); time.sleep(600)"
    async with running(python(code, lines, lambda: lines.wait_for("up"), 5)) as it:
        await it.is_ready.wait()
        os.kill(int(lines.all[0]), signal.SIGKILL)
        await lines.wait_for("up", times=2)
        assert "was killed by SIGKILL; starting it again in 0.01 s" in lines.all
    assert not any(is_alive(int(line)) for line in lines.all if line.isdecimal())


async def test_a_program_that_ends_before_it_was_ready_is_given_up() -> None:
    lines = Lines()
    async with running(python("print('no'); exit(3)", lines, asyncio.Event().wait, 5)) as it:  # type: ignore[arg-type]
        with pytest.raises(ProgramFailed, match="it ended with status 3 before it was ready"):
            await it.watch
    assert lines.all == ["no"]


async def test_a_program_that_will_never_be_ready_is_stopped() -> None:
    lines = Lines()

    async def hopeless() -> None:
        await lines.wait_for("waiting")
        raise ProgramFailed("no model")

    code = "import time; print('waiting'); time.sleep(600)"
    async with running(python(code, lines, hopeless, 5)) as it:
        with pytest.raises(ProgramFailed, match="no model"):
            await it.watch


async def test_a_program_deaf_to_sigterm_is_killed() -> None:
    lines = Lines()
    program = python(STUBBORN, lines, lambda: lines.wait_for("deaf"), 0.05)
    async with running(program) as it:
        await it.is_ready.wait()
    assert it.watch.cancelled()


def test_a_tied_program_dies_when_its_parent_is_killed() -> None:
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

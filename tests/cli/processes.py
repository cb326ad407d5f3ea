"""Helpers that inspect processes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

TIMEOUT_S = 300.0


def wait_until(condition: Callable[[], bool], description: str) -> None:
    """Wait until `condition` holds; fail with `description` after `TIMEOUT_S` seconds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting until {description}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Return True if a process runs; a process that has ended and waits to be reaped does not.

    A killed process whose first thread has ended still holds its files until the others end.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" or len(threads) > 1


def children(pid: int) -> list[int]:
    """Return the running child processes of `pid`, their children and so on."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    direct = [int(child) for child in listed if is_alive(int(child))]
    return direct + [descendant for child in direct for descendant in children(child)]

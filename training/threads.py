"""How many threads to compute with, beside other work on the same machine.

The threads of one operation wait for each other, so one that shares its core with someone of
higher priority holds all of them up: two threads then run slower than one alone (measured: a
third of the speed). Between steps, training takes as many threads as there are free cores.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

_STAT = Path("/proc/stat")


class FreeCores:
    """Follows, on Linux, how many cores the processes of normal priority leave free."""

    def __init__(self) -> None:
        self.cores = os.cpu_count() or 1
        self.before = self.jiffies()

    def jiffies(self) -> tuple[int, int]:
        """Time spent so far by processes of normal priority, and altogether."""
        times = [int(field) for field in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
        user, _nice, system, *_rest = times
        return user + system, sum(times)

    def measure(self) -> int:
        """Cores free on average since the last call, at least one."""
        (busy_before, all_before), now = self.before, self.jiffies()
        self.before = now
        elapsed = max(1, now[1] - all_before)
        busy = (now[0] - busy_before) / elapsed * self.cores
        return max(1, min(self.cores, round(self.cores - busy)))


def follow_free_cores(free: FreeCores) -> None:
    """Compute with as many threads as `free` has measured cores."""
    torch.set_num_threads(free.measure())

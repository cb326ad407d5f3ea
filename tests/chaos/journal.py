"""History of every job, read from the server's append-only file.

Redis writes every change to that file in order, including the changes of its scripts. So the record
is complete: no state of a job can be missed between two polls, and none is reported by the programs
under test.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from protocol.queue.job import TERMINAL, JobState
from protocol.queue.job_queue import STATES

JOB = b"rq:job:"
WORKER = b"rq:worker:"


@dataclass(frozen=True)
class Entry:
    """A change of a job to `state`; `at` is in seconds since the epoch, if the programs set it."""

    state: JobState
    at: float | None
    worker: str


@dataclass
class History:
    """All states of a job, in order."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def endings(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state in TERMINAL]

    @property
    def attempts(self) -> list[Entry]:
        """The start of each attempt by a worker."""
        return [entry for entry in self.entries if entry.state is JobState.RUNNING]

    @property
    def ended_once(self) -> bool:
        return len(self.endings) == 1 and self.entries[-1] is self.endings[0]

    def attempt_at(self, at: float) -> Entry | None:
        """Return the start of the attempt that was running at a time, or None."""
        before = [entry for entry in self.entries if entry.at is not None and entry.at <= at]
        last = before[-1] if before else None
        return last if last is not None and last.state is JobState.RUNNING else None


@dataclass
class Journal:
    """Histories by job id, and process ids of workers by name."""

    jobs: dict[str, History]
    pids: dict[str, int]


def read_journal(folder: Path) -> Journal:
    """Read the complete append-only file of a server in `folder`; `appendfsync` must be `always`.

    With `everysec` a write may be delayed behind the sync of the one before it.
    """
    jobs: dict[str, History] = defaultdict(History)
    pids: dict[str, int] = {}
    for path in _files(folder):
        for command, key, *rest in _commands(path.read_bytes()):
            if command.upper() not in (b"HSET", b"HMSET"):
                continue
            fields = dict(zip(rest[::2], rest[1::2], strict=True))
            if key.startswith(JOB) and b"status" in fields:
                jobs[key.removeprefix(JOB).decode()].entries.append(_entry(fields))
            elif key.startswith(WORKER) and b"pid" in fields:
                pids[key.removeprefix(WORKER).decode()] = int(fields[b"pid"])
    return Journal(dict(jobs), pids)


def _files(folder: Path) -> list[Path]:
    """Return the incremental files, oldest first: `appendonly.aof.1.incr.aof` and so on."""
    found = list(folder.glob("appendonlydir/*.incr.aof"))
    assert found, f"no append-only file in {os.listdir(folder)}"
    return sorted(found, key=lambda path: int(path.name.split(".")[-3]))


def _commands(data: bytes) -> Iterator[list[bytes]]:
    """Yield the commands of a file in RESP with at least one argument, up to an incomplete end."""
    place = 0
    while place < len(data):
        line_end = data.find(b"\r\n", place)
        if line_end < 0:
            return
        line, place = data[place:line_end], line_end + 2
        if not line.startswith(b"*"):  # a time stamp
            continue
        words = []
        for _ in range(int(line[1:])):
            line_end = data.find(b"\r\n", place)
            length = int(data[place + 1 : line_end])
            words.append(data[line_end + 2 : line_end + 2 + length])
            place = line_end + 2 + length + 2
        if place > len(data):
            return
        if len(words) >= 2:
            yield words


def _entry(fields: dict[bytes, bytes]) -> Entry:
    state = STATES[fields[b"status"].decode()]  # type: ignore[index]  # RQ's states are strings
    written = fields.get(b"started_at" if state is JobState.RUNNING else b"ended_at", b"")
    return Entry(state, _seconds(written), fields.get(b"worker_name", b"").decode())


def _seconds(rq_time: bytes) -> float | None:
    if not rq_time:
        return None
    moment = datetime.strptime(rq_time.decode(), "%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.replace(tzinfo=UTC).timestamp()

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
from itertools import groupby
from pathlib import Path

from protocol.queue.batches import batch_job_id
from protocol.queue.job import TERMINAL, JobState
from protocol.queue.job_queue import STATES

JOB = b"rq:job:"
WORKER = b"rq:worker:"
BATCH = b"darkroom:batch:"
IDEMPOTENCY = b"darkroom:idempotency:"
EMPTIED = "chaos:emptied"  # written in one transaction with FLUSHALL: the time


@dataclass(frozen=True)
class Entry:
    """A change of a job to `state`; `at` is in seconds since the epoch, if the programs set it.

    `era` is the number of times that Redis had been emptied before.
    """

    state: JobState
    at: float | None
    worker: str
    era: int = 0


@dataclass
class History:
    """All states of a job, in order.

    `gone_at`: the time when Redis was emptied after the last of them; None if it was not.
    """

    entries: list[Entry] = field(default_factory=list)
    gone_at: float | None = None

    @property
    def endings(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state in TERMINAL]

    @property
    def attempts(self) -> list[Entry]:
        """The start of each attempt by a worker."""
        return [entry for entry in self.entries if entry.state is JobState.RUNNING]

    @property
    def records(self) -> list[list[Entry]]:
        """The entries by era: a job that is submitted again to an emptied Redis has a new record.

        That happens if the response to the first submission was lost.
        """
        return [list(entries) for _, entries in groupby(self.entries, lambda entry: entry.era)]

    @property
    def lost_with_redis(self) -> bool:
        """True for a job that had not ended when Redis was emptied; nothing can restore it."""
        return self.gone_at is not None and not _has_ended(self.records[-1])

    @property
    def ended_once(self) -> bool:
        """True if each record began in the queue and ended at most once, and the last did end.

        The last need not have ended if it was lost with Redis.
        """
        has_ended = self.lost_with_redis or (bool(self.entries) and _has_ended(self.records[-1]))
        return has_ended and all(map(_is_valid, self.records))

    def attempt_at(self, at: float) -> Entry | None:
        """Return the start of the attempt that was running at a time, or None."""
        if self.gone_at is not None and self.gone_at <= at:
            return None
        before = [entry for entry in self.entries if entry.at is not None and entry.at <= at]
        last = before[-1] if before else None
        return last if last is not None and last.state is JobState.RUNNING else None


@dataclass
class Batch:
    """The jobs of a batch, and the eras in which it was queued."""

    jobs: list[str]
    eras: set[int] = field(default_factory=set)


@dataclass
class Journal:
    """Histories by job id, and process ids of workers by name.

    `emptied`: the times when Redis was emptied. `repeated`: the further jobs of an Idempotency-Key,
    whose first job was in Redis when it was emptied.
    """

    jobs: dict[str, History]
    pids: dict[str, int]
    batches: dict[str, Batch] = field(default_factory=dict)
    emptied: list[float] = field(default_factory=list)
    repeated: set[str] = field(default_factory=set)

    @property
    def torn(self) -> set[str]:
        """The batches of which not every job was queued, in an era in which one was."""
        return {
            name
            for name, batch in self.batches.items()
            for job in batch.jobs
            if not batch.eras <= {entry.era for entry in self._queued(job)}
        }

    def submitted(self, name: str) -> list[str]:
        """Return the jobs of a submission that were queued: those of a batch, or the job itself."""
        names = self.batches[name].jobs if name in self.batches else [name]
        return [job for job in names if job in self.jobs]

    def _queued(self, job: str) -> list[Entry]:
        entries = self.jobs.get(job, History()).entries
        return [entry for entry in entries if entry.state is JobState.QUEUED]


def read_journal(folder: Path) -> Journal:
    """Read the complete append-only file of a server in `folder`; `appendfsync` must be `always`.

    With `everysec` a write may be delayed behind the sync of the one before it.
    """
    journal = Journal(defaultdict(History), {})
    jobs_of_keys: dict[bytes, list[str]] = defaultdict(list)
    for path in _files(folder):
        for command, key, *rest in _commands(path.read_bytes()):
            match command.upper():
                case b"HSET" | b"HMSET":
                    _read_hash(journal, key, dict(zip(rest[::2], rest[1::2], strict=True)))
                case b"SET" if key == EMPTIED.encode():
                    _read_emptied(journal, float(rest[0]))
                case b"SET" if key.startswith(IDEMPOTENCY):  # only if there is none
                    jobs_of_keys[key].append(rest[0].split()[0].decode())
    for names in jobs_of_keys.values():
        for repeated in [jobs for name in names if (jobs := journal.submitted(name))][1:]:
            journal.repeated.update(repeated)
    return journal


def _read_hash(journal: Journal, key: bytes, fields: dict[bytes, bytes]) -> None:
    if key.startswith(JOB) and b"status" in fields:
        history = journal.jobs[key.removeprefix(JOB).decode()]
        history.entries.append(_entry(fields, era=len(journal.emptied)))
        history.gone_at = None
    elif key.startswith(BATCH):
        name = key.removeprefix(BATCH).decode()
        jobs = [batch_job_id(name, number) for number in range(int(fields[b"count"]))]
        journal.batches.setdefault(name, Batch(jobs)).eras.add(len(journal.emptied))
    elif key.startswith(WORKER) and b"pid" in fields:
        journal.pids[key.removeprefix(WORKER).decode()] = int(fields[b"pid"])


def _read_emptied(journal: Journal, at: float) -> None:
    journal.emptied.append(at)
    for history in journal.jobs.values():
        history.gone_at = history.gone_at or at


def _has_ended(record: list[Entry]) -> bool:
    return any(entry.state in TERMINAL for entry in record)


def _is_valid(record: list[Entry]) -> bool:
    """Return True if the record began in the queue, and nothing follows a terminal state."""
    return record[0].state is JobState.QUEUED and not _has_ended(record[:-1])


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


def _entry(fields: dict[bytes, bytes], era: int) -> Entry:
    state = STATES[fields[b"status"].decode()]  # type: ignore[index]  # RQ's states are strings
    field_of = {JobState.QUEUED: b"enqueued_at", JobState.RUNNING: b"started_at"}
    written = fields.get(field_of.get(state, b"ended_at"), b"")
    return Entry(state, _seconds(written), fields.get(b"worker_name", b"").decode(), era)


def _seconds(rq_time: bytes) -> float | None:
    if not rq_time:
        return None
    moment = datetime.strptime(rq_time.decode(), "%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.replace(tzinfo=UTC).timestamp()

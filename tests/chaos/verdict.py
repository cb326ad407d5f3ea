"""Whether the promises were kept, from what clients were told and what the journal says."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocol.queue.job import JobState
from tests.chaos.faults import Incident
from tests.chaos.journal import History, Journal
from tests.chaos.load import Notes, error_counts


@dataclass(frozen=True)
class Row:
    """One kind of fault; times in seconds after it began."""

    fault: str
    times: int
    in_flight: int
    lost: int
    doubled: int
    begun_again: list[float]
    ended: list[float]
    errors: str


@dataclass(frozen=True)
class Verdict:
    """`rows` by kind of fault; the sets hold job ids, and all ought to be empty."""

    jobs: int  # in the journal
    accepted: int  # as clients were told
    finished: int
    cancelled: int
    rows: list[Row]
    lost: set[str]  # accepted, and no ending, or none that can be asked for
    doubled: set[str]  # more than one ending, or something after it
    failed: set[str]
    wrong: set[str]  # pictures other than drawn alone
    surplus: int  # jobs more than were ordered: retries that became jobs of their own
    orphans: list[str]
    fallen: list[str]  # programs that ended though nobody killed them

    @property
    def kept(self) -> bool:
        """Whether nothing went wrong."""
        return not (
            self.lost
            or self.doubled
            or self.failed
            or self.wrong
            or self.surplus
            or self.orphans
            or self.fallen
        )

    @property
    def begun_again(self) -> list[float]:
        """How long the jobs of dead and frozen workers waited for another."""
        return [seconds for row in self.rows for seconds in row.begun_again]


def judge(
    journal: Journal,
    notes: Notes,
    incidents: Sequence[Incident],
    orders: int,
    orphans: list[str],
    fallen: list[str],
) -> Verdict:
    histories = journal.jobs
    lost = {job for job in notes.accepted if not histories.get(job, History()).endings}
    lost |= notes.missing | {job for job, history in histories.items() if not history.endings}
    doubled = {job for job, history in histories.items() if not history.ended_once} - lost
    last = {job: history.entries[-1].state for job, history in histories.items()}
    kinds = list(dict.fromkeys(incident.fault.name for incident in incidents))
    return Verdict(
        jobs=len(histories),
        accepted=len(notes.accepted),
        finished=sum(state is JobState.FINISHED for state in last.values()),
        cancelled=sum(state is JobState.CANCELLED for state in last.values()),
        rows=[_row(kind, journal, notes, incidents, lost, doubled) for kind in kinds],
        lost=lost,
        doubled=doubled,
        failed={job for job, state in last.items() if state is JobState.FAILED},
        wrong=notes.wrong,
        surplus=max(0, len(histories) - orders),
        orphans=orphans,
        fallen=fallen,
    )


def _row(
    kind: str,
    journal: Journal,
    notes: Notes,
    incidents: Sequence[Incident],
    lost: set[str],
    doubled: set[str],
) -> Row:
    of_kind = [incident for incident in incidents if incident.fault.name == kind]
    in_flight: list[str] = []
    begun_again: list[float] = []
    ended: list[float] = []
    for incident in of_kind:
        hit = _in_flight(journal, incident)
        in_flight += hit
        for history in (journal.jobs[job] for job in hit):
            ended += [entry.at - incident.at for entry in history.endings if entry.at]
            if incident.fault.part == "worker":
                begun_again += _next_attempt(history, incident.at)
    mine = [
        error
        for error in notes.errors
        if (latest := _latest(incidents, error[0])) is not None and latest.fault.name == kind
    ]
    return Row(
        fault=kind,
        times=len(of_kind),
        in_flight=len(in_flight),
        lost=len(lost.intersection(in_flight)),
        doubled=len(doubled.intersection(in_flight)),
        begun_again=begun_again,
        ended=ended,
        errors=error_counts(mine),
    )


def _in_flight(journal: Journal, incident: Incident) -> list[str]:
    """Jobs that the struck worker held at that moment, or any worker if none was struck."""
    found = []
    for job, history in journal.jobs.items():
        attempt = history.holder(incident.at)
        of_a_worker = incident.fault.part == "worker"
        if attempt and (not of_a_worker or journal.pids.get(attempt.worker) == incident.pid):
            found.append(job)
    return found


def _next_attempt(history: History, at: float) -> list[float]:
    return [entry.at - at for entry in history.begun if entry.at and entry.at > at][:1]


def _latest(incidents: Sequence[Incident], at: float) -> Incident | None:
    before = [incident for incident in incidents if incident.at <= at]
    return before[-1] if before else None


def as_table(rows: Iterable[Row]) -> str:
    """In Markdown."""
    lines = [
        "| fault | times | jobs in flight | lost | doubled | begun again after, p50 / max "
        "| ended after, p50 / max | client-visible errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row.fault,
            row.times,
            row.in_flight,
            row.lost,
            row.doubled,
            spread(row.begun_again),
            spread(row.ended),
            row.errors or "none",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def spread(seconds: Sequence[float]) -> str:
    """Median and maximum."""
    if not seconds:
        return "–"
    return f"{statistics.median(seconds):.1f} / {max(seconds):.1f} s"


def p99(seconds: Sequence[float]) -> str:
    """The 99th percentile: the smallest that 99 of 100 do not exceed."""
    if not seconds:
        return "–"
    return f"{sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]:.1f} s"

"""Report of a chaos run, from the responses to clients and the journal of Redis."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocol.queue.job import JobState
from tests.chaos.faults import Incident
from tests.chaos.journal import History, Journal
from tests.chaos.load import Observations, error_counts
from tests.chaos.webhooks import untold, wrong_calls
from tests.service.webhooks.receiver import Call

RECOVERED_WITHIN_S = 30.0  # other faults may come in addition


@dataclass(frozen=True)
class Row:
    """Results of one kind of fault; times are in seconds after its start."""

    fault: str
    times: int
    in_flight: int
    lost: int
    done_twice: int
    started_again: list[float]
    ended: list[float]
    errors: str


@dataclass(frozen=True)
class Report:
    """Results of a run: `rows` by kind of fault; the sets hold job ids and should be empty.

    Except `lost_with_redis`: jobs that had not ended when Redis was emptied. Nothing can restore
    them, but their clients must get an answer, and jobs submitted later must end.
    """

    jobs: int  # in the journal
    accepted: int  # in responses to clients
    finished: int
    cancelled: int
    deleted: int  # before they ended
    rows: list[Row]
    lost_with_redis: set[str]
    lost: set[str]  # accepted, but without a terminal state, or unknown to the API
    done_twice: set[str]  # more than one terminal state, or another state after it
    failed: set[str]
    wrong: set[str]  # images differ from those generated alone
    undead: set[str]  # deleted, and still there
    unlisted: set[str]  # there, and not in the list
    torn: set[str]  # batches of which only some jobs were queued
    untold: set[str]  # ended, but the webhook was never called
    misinformed: set[str]  # a call has a wrong id, signature, state or body
    surplus: int  # more jobs than submissions: retries that became second jobs
    unanswered: int  # submissions that never ended for their clients
    recoveries: list[float]  # seconds from each emptying of Redis until a later job has finished
    unrecovered: list[float]  # times of an emptying after which no job finished soon
    orphans: list[str]
    crashed: list[str]  # programs that ended although they were not stopped
    mistimed: set[str]  # a time of theirs is not within the run, so it is that of a wrong clock

    @property
    def passed(self) -> bool:
        """True if there is no violation."""
        return not (
            self.lost
            or self.done_twice
            or self.failed
            or self.wrong
            or self.undead
            or self.unlisted
            or self.torn
            or self.untold
            or self.misinformed
            or self.surplus
            or self.unanswered
            or self.unrecovered
            or self.orphans
            or self.crashed
            or self.mistimed
        )

    @property
    def started_again(self) -> list[float]:
        """Seconds that the jobs of dead and frozen workers waited for another worker."""
        return [seconds for row in self.rows for seconds in row.started_again]


def make_report(
    journal: Journal,
    observations: Observations,
    incidents: Sequence[Incident],
    submissions: int,
    orphans: list[str],
    crashed: list[str],
    ran: tuple[float, float],
    calls: Sequence[Call],
    secret: str,
) -> Report:
    """`ran`: the times at which the run began and ended, in seconds since the epoch.

    `calls`: of webhooks, which are signed with `secret`.
    """
    histories = journal.jobs
    lost_with_redis = {job for job, history in histories.items() if history.lost_with_redis}
    lost = {job for job in observations.accepted if not histories.get(job, History()).endings}
    # A job is missing with good reason if its record was in Redis when that was emptied.
    lost |= {job for job in observations.missing if histories.get(job, History()).gone_at is None}
    lost |= {job for job, history in histories.items() if not history.endings}
    deleted = {job for job in observations.deleting if not histories.get(job, History()).endings}
    lost -= lost_with_redis | deleted
    done_twice = {job for job, history in histories.items() if not history.ended_once} - lost
    done_twice -= deleted
    recoveries = _recoveries(journal)
    last = {job: history.entries[-1].state for job, history in histories.items()}
    kinds = list(dict.fromkeys(incident.fault.name for incident in incidents))
    return Report(
        jobs=len(histories),
        accepted=len(observations.accepted),
        finished=sum(state is JobState.FINISHED for state in last.values()),
        lost_with_redis=lost_with_redis,
        cancelled=sum(state is JobState.CANCELLED for state in last.values()),
        deleted=len(deleted - lost_with_redis),
        rows=[_row(kind, journal, observations, incidents, lost, done_twice) for kind in kinds],
        lost=lost,
        done_twice=done_twice,
        failed={job for job, state in last.items() if state is JobState.FAILED},
        wrong=observations.wrong,
        undead=observations.undead,
        unlisted=observations.unlisted,
        torn=journal.torn,
        untold=untold(journal, observations, calls),
        misinformed=wrong_calls(journal, calls, secret),
        surplus=max(0, len(histories) - submissions - len(journal.repeated)),
        unanswered=observations.unanswered,
        recoveries=[seconds for seconds in recoveries.values() if seconds < math.inf],
        unrecovered=[at for at, seconds in recoveries.items() if seconds > RECOVERED_WITHIN_S],
        orphans=orphans,
        crashed=crashed,
        mistimed=_mistimed(histories, observations, ran),
    )


def _mistimed(
    histories: dict[str, History], observations: Observations, ran: tuple[float, float]
) -> set[str]:
    """Return the jobs with a time outside the run, or with a total that is longer than it."""
    began, ended = ran
    found = {job for job, total in observations.totals.items() if total > ended - began}
    for job, history in histories.items():
        times = [entry.at for entry in history.entries if entry.at is not None]
        if any(not began <= at <= ended for at in times):
            found.add(job)
    return found


def _recoveries(journal: Journal) -> dict[float, float]:
    """Return the seconds from each emptying of Redis until a job submitted later has finished.

    Without those after which no job was submitted, or Redis was emptied again too soon to judge.
    """
    found = {}
    ends_at = [*journal.emptied, math.inf][1:]
    for era, (at, end_at) in enumerate(zip(journal.emptied, ends_at, strict=True), start=1):
        entries = [
            entry
            for history in journal.jobs.values()
            for entry in history.entries
            if entry.era == era
        ]
        finished = [
            entry.at - at for entry in entries if entry.state is JobState.FINISHED and entry.at
        ]
        if finished or (entries and end_at - at > RECOVERED_WITHIN_S):
            found[at] = min(finished, default=math.inf)
    return found


def _row(
    kind: str,
    journal: Journal,
    observations: Observations,
    incidents: Sequence[Incident],
    lost: set[str],
    done_twice: set[str],
) -> Row:
    of_kind = [incident for incident in incidents if incident.fault.name == kind]
    in_flight: list[str] = []
    started_again: list[float] = []
    ended: list[float] = []
    for incident in of_kind:
        hit = _in_flight(journal, incident)
        in_flight += hit
        for history in (journal.jobs[job] for job in hit):
            ended += [entry.at - incident.at for entry in history.endings if entry.at]
            if incident.fault.part == "worker":
                started_again += _next_attempt(history, incident.at)
    errors = [
        error
        for error in observations.errors
        if (latest := _latest(incidents, error[0])) is not None and latest.fault.name == kind
    ]
    return Row(
        fault=kind,
        times=len(of_kind),
        in_flight=len(in_flight),
        lost=len(lost.intersection(in_flight)),
        done_twice=len(done_twice.intersection(in_flight)),
        started_again=started_again,
        ended=ended,
        errors=error_counts(errors),
    )


def _in_flight(journal: Journal, incident: Incident) -> list[str]:
    """Return the jobs of the worker that was hit, or of all workers if the fault hit none."""
    found = []
    for job, history in journal.jobs.items():
        attempt = history.attempt_at(incident.at)
        of_a_worker = incident.fault.part == "worker"
        if attempt and (not of_a_worker or journal.pids.get(attempt.worker) == incident.pid):
            found.append(job)
    return found


def _next_attempt(history: History, at: float) -> list[float]:
    return [entry.at - at for entry in history.attempts if entry.at and entry.at > at][:1]


def _latest(incidents: Sequence[Incident], at: float) -> Incident | None:
    before = [incident for incident in incidents if incident.at <= at]
    return before[-1] if before else None


def as_table(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| fault | times | jobs in flight | lost | done twice | started again after, p50 / max "
        "| ended after, p50 / max | client-visible errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row.fault,
            row.times,
            row.in_flight,
            row.lost,
            row.done_twice,
            spread(row.started_again),
            spread(row.ended),
            row.errors or "none",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def spread(seconds: Sequence[float]) -> str:
    """Return the median and the maximum as text."""
    if not seconds:
        return "–"
    return f"{statistics.median(seconds):.1f} / {max(seconds):.1f} s"


def p99(seconds: Sequence[float]) -> str:
    """Return the 99th percentile as text: the smallest value that 99 % do not exceed."""
    if not seconds:
        return "–"
    return f"{sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]:.1f} s"

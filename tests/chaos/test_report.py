"""Tests of the report: it must detect every violation."""

import math

import pytest

from protocol.queue.job import JobState
from tests.chaos.journal import Entry, History, Journal
from tests.chaos.load import Observations
from tests.chaos.report import RECOVERED_WITHIN_S, Report, make_report

QUEUED, RUNNING = Entry(JobState.QUEUED, None, ""), Entry(JobState.RUNNING, 1.0, "worker")
RAN, ANY_TIME = (0.5, 3600.0), (0.0, math.inf)
FINISHED, FAILED = Entry(JobState.FINISHED, 2.0, ""), Entry(JobState.FAILED, 3.0, "")


def report_of(
    *entries: Entry, observations: Observations | None = None, orphans: tuple[str, ...] = ()
) -> Report:
    journal = Journal({"job": History(list(entries))}, {})
    observations = observations or Observations(accepted={"job": 0})
    return make_report(journal, observations, [], 1, list(orphans), [], RAN)


def test_job_that_ended_once_passes() -> None:
    assert report_of(QUEUED, RUNNING, QUEUED, RUNNING, FINISHED).passed


@pytest.mark.parametrize(
    ("entries", "violation"),
    [
        ((QUEUED, RUNNING), "lost"),
        ((QUEUED, RUNNING, FINISHED, FINISHED), "done_twice"),
        ((QUEUED, RUNNING, FINISHED, QUEUED), "done_twice"),
        ((QUEUED, RUNNING, FAILED), "failed"),
    ],
)
def test_job_that_did_not_finish_once_is_detected(
    entries: tuple[Entry, ...], violation: str
) -> None:
    report = report_of(*entries)
    assert getattr(report, violation) == {"job"}
    assert not report.passed


@pytest.mark.parametrize(
    ("observations", "violation"),
    [
        (Observations(accepted={"job": 0, "another": 0}), "lost"),
        (Observations(accepted={"job": 0}, missing={"job"}), "lost"),
        (Observations(accepted={"job": 0}, wrong={"job"}), "wrong"),
    ],
)
def test_responses_to_clients_count(observations: Observations, violation: str) -> None:
    report = report_of(QUEUED, RUNNING, FINISHED, observations=observations)
    assert getattr(report, violation)
    assert not report.passed


@pytest.mark.parametrize("at", [2.0 - 3600, 2.0 + 3600])
def test_time_of_a_wrong_clock_is_detected(at: float) -> None:
    report = report_of(QUEUED, RUNNING, Entry(JobState.FINISHED, at, ""))
    assert report.mistimed == {"job"}
    assert not report.passed


def test_duration_between_different_clocks_is_detected() -> None:
    observations = Observations(accepted={"job": 0}, totals={"job": 3601.0})
    assert report_of(QUEUED, RUNNING, FINISHED, observations=observations).mistimed == {"job"}


# ---- an emptied Redis --------------------------------------------------------------------------

NEW_QUEUED, NEW_RUNNING, NEW_FINISHED = (
    Entry(state, 12.0, "", era=1)
    for state in (JobState.QUEUED, JobState.RUNNING, JobState.FINISHED)
)


def report_of_emptied(
    *entries: Entry, observations: Observations | None = None, is_gone: bool = True, later: int = 0
) -> Report:
    """Return the report if Redis was emptied at the time 10, after all `entries` if `is_gone`.

    `later` more jobs are submitted and finished afterwards.
    """
    jobs = {"job": History(list(entries), gone_at=10.0 if is_gone else None)}
    jobs |= {f"later {number}": History([NEW_QUEUED, NEW_FINISHED]) for number in range(later)}
    journal = Journal(jobs, {}, emptied=[10.0])
    observations = observations or Observations(accepted={"job": 0})
    return make_report(journal, observations, [], len(jobs), [], [], ANY_TIME)


@pytest.mark.parametrize("entries", [(QUEUED,), (QUEUED, RUNNING), (QUEUED, RUNNING, QUEUED)])
def test_job_that_had_not_ended_is_lost_with_redis(entries: tuple[Entry, ...]) -> None:
    observations = Observations(accepted={"job": 0}, missing={"job"})
    report = report_of_emptied(*entries, observations=observations)
    assert report.lost_with_redis == {"job"}
    assert report.passed


def test_ended_job_may_be_missing_after_redis_was_emptied() -> None:
    observations = Observations(accepted={"job": 0}, missing={"job"})
    report = report_of_emptied(QUEUED, RUNNING, FINISHED, observations=observations)
    assert report.lost_with_redis == set()
    assert report.passed


@pytest.mark.parametrize(
    ("entries", "violation"),
    [
        ((NEW_QUEUED, NEW_RUNNING), "lost"),
        ((QUEUED, RUNNING, NEW_FINISHED), "done_twice"),  # a worker restored a lost job
        ((QUEUED, RUNNING, NEW_RUNNING, NEW_FINISHED), "done_twice"),
        ((QUEUED, FINISHED, FINISHED, NEW_QUEUED, NEW_FINISHED), "done_twice"),
        ((NEW_QUEUED, NEW_FINISHED, NEW_FINISHED), "done_twice"),
    ],
)
def test_violations_after_redis_was_emptied_are_detected(
    entries: tuple[Entry, ...], violation: str
) -> None:
    report = report_of_emptied(*entries, is_gone=False)
    assert getattr(report, violation) == {"job"}
    assert not report.passed


def test_lost_job_must_not_have_been_restored_before() -> None:
    report = report_of_emptied(QUEUED, RUNNING, NEW_RUNNING, is_gone=True)
    assert report.done_twice == {"job"}


def test_job_submitted_after_redis_was_emptied_must_not_be_missing() -> None:
    observations = Observations(accepted={"job": 0}, missing={"job"})
    report = report_of_emptied(NEW_QUEUED, NEW_FINISHED, observations=observations, is_gone=False)
    assert report.lost == {"job"}


def test_accepted_job_without_any_record_is_lost_all_the_same() -> None:
    observations = Observations(accepted={"job": 0, "another": 0})
    assert report_of_emptied(QUEUED, observations=observations).lost == {"another"}


def test_job_may_be_submitted_again_to_an_emptied_redis() -> None:
    report = report_of_emptied(
        QUEUED, RUNNING, NEW_QUEUED, NEW_RUNNING, NEW_FINISHED, is_gone=False
    )
    assert report.passed


def test_recovery_lasts_until_a_later_job_has_finished() -> None:
    assert report_of_emptied(QUEUED, later=2).recoveries == [2.0]
    assert report_of_emptied(QUEUED).recoveries == []  # no job was submitted later


@pytest.mark.parametrize(
    "entries", [(), (Entry(JobState.FINISHED, 10.0 + RECOVERED_WITHIN_S + 1, "", era=1),)]
)
def test_missing_or_late_recovery_is_detected(entries: tuple[Entry, ...]) -> None:
    report = report_of_emptied(NEW_QUEUED, *entries, is_gone=False)
    assert report.unrecovered == [10.0]
    assert not report.passed


def test_client_without_an_answer_is_detected() -> None:
    observations = Observations(accepted={"job": 0}, unanswered=1)
    assert not report_of(QUEUED, RUNNING, FINISHED, observations=observations).passed


def test_retry_may_become_a_second_job_only_if_redis_was_emptied_between() -> None:
    jobs = {name: History([QUEUED, FINISHED]) for name in ("job", "again")}
    for repeated, surplus in ((set[str](), 1), ({"again"}, 0)):
        journal = Journal(jobs, {}, emptied=[10.0], repeated=repeated)
        report = make_report(
            journal, Observations(), [], submissions=1, orphans=[], crashed=[], ran=ANY_TIME
        )
        assert report.surplus == surplus


def test_garbage_is_detected() -> None:
    assert not report_of(QUEUED, RUNNING, FINISHED, orphans=("rq:job:1",)).passed


def test_retry_that_became_a_second_job_is_detected() -> None:
    history = History([QUEUED, RUNNING, FINISHED])
    journal = Journal({"job": history, "again": history}, {})
    expected = make_report(
        journal, Observations(), [], submissions=2, orphans=[], crashed=[], ran=ANY_TIME
    )
    assert expected.passed
    doubled = make_report(
        journal, Observations(), [], submissions=1, orphans=[], crashed=[], ran=ANY_TIME
    )
    assert doubled.surplus == 1

"""Tests of the report: it must detect every violation."""

import pytest

from protocol.queue.job import JobState
from tests.chaos.journal import Entry, History, Journal
from tests.chaos.load import Observations
from tests.chaos.report import Report, make_report

QUEUED, RUNNING = Entry(JobState.QUEUED, None, ""), Entry(JobState.RUNNING, 1.0, "worker")
FINISHED, FAILED = Entry(JobState.FINISHED, 2.0, ""), Entry(JobState.FAILED, 3.0, "")


def report_of(
    *entries: Entry, observations: Observations | None = None, orphans: tuple[str, ...] = ()
) -> Report:
    journal = Journal({"job": History(list(entries))}, {})
    observations = observations or Observations(accepted={"job": 0})
    return make_report(journal, observations, [], 1, list(orphans), [])


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


def test_garbage_is_detected() -> None:
    assert not report_of(QUEUED, RUNNING, FINISHED, orphans=("rq:job:1",)).passed


def test_retry_that_became_a_second_job_is_detected() -> None:
    history = History([QUEUED, RUNNING, FINISHED])
    journal = Journal({"job": history, "again": history}, {})
    expected = make_report(journal, Observations(), [], submissions=2, orphans=[], crashed=[])
    assert expected.passed
    doubled = make_report(journal, Observations(), [], submissions=1, orphans=[], crashed=[])
    assert doubled.surplus == 1

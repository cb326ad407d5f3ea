"""The verdict itself: it must be able to find fault."""

import pytest

from protocol.queue.job import JobState
from tests.chaos.journal import Entry, History, Journal
from tests.chaos.load import Notes
from tests.chaos.verdict import Verdict, judge

QUEUED, RUNNING = Entry(JobState.QUEUED, None, ""), Entry(JobState.RUNNING, 1.0, "ann")
FINISHED, FAILED = Entry(JobState.FINISHED, 2.0, ""), Entry(JobState.FAILED, 3.0, "")


def verdict_of(
    *entries: Entry, notes: Notes | None = None, orphans: tuple[str, ...] = ()
) -> Verdict:
    journal = Journal({"job": History(list(entries))}, {})
    return judge(journal, notes or Notes(accepted={"job": 0}), [], 1, list(orphans), [])


def test_all_is_well_with_a_job_that_ended_once() -> None:
    assert verdict_of(QUEUED, RUNNING, QUEUED, RUNNING, FINISHED).kept


@pytest.mark.parametrize(
    ("entries", "charge"),
    [
        ((QUEUED, RUNNING), "lost"),
        ((QUEUED, RUNNING, FINISHED, FINISHED), "doubled"),
        ((QUEUED, RUNNING, FINISHED, QUEUED), "doubled"),
        ((QUEUED, RUNNING, FAILED), "failed"),
    ],
)
def test_a_job_ends_once_and_well(entries: tuple[Entry, ...], charge: str) -> None:
    verdict = verdict_of(*entries)
    assert getattr(verdict, charge) == {"job"}
    assert not verdict.kept


@pytest.mark.parametrize(
    ("notes", "charge"),
    [
        (Notes(accepted={"job": 0, "another": 0}), "lost"),
        (Notes(accepted={"job": 0}, missing={"job"}), "lost"),
        (Notes(accepted={"job": 0}, wrong={"job"}), "wrong"),
    ],
)
def test_what_clients_were_told_counts(notes: Notes, charge: str) -> None:
    verdict = verdict_of(QUEUED, RUNNING, FINISHED, notes=notes)
    assert getattr(verdict, charge)
    assert not verdict.kept


def test_nothing_is_left_behind() -> None:
    assert not verdict_of(QUEUED, RUNNING, FINISHED, orphans=("rq:job:1",)).kept


def test_a_retry_is_no_second_job() -> None:
    history = History([QUEUED, RUNNING, FINISHED])
    journal = Journal({"job": history, "again": history}, {})
    assert judge(journal, Notes(), [], orders=2, orphans=[], fallen=[]).kept
    assert judge(journal, Notes(), [], orders=1, orphans=[], fallen=[]).surplus == 1

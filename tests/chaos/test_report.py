"""Tests of the report: it must detect every violation."""

import base64
import json
import math
from collections.abc import Sequence

import pytest

from protocol.queue.batches import batch_job_id
from protocol.queue.job import JobState
from tests.chaos.journal import Batch, Entry, History, Journal
from tests.chaos.load import Observations
from tests.chaos.report import RECOVERED_WITHIN_S, Report, make_report
from tests.service.webhooks.receiver import Call, signature

QUEUED, RUNNING = Entry(JobState.QUEUED, None, ""), Entry(JobState.RUNNING, 1.0, "worker")
RAN, ANY_TIME = (0.5, 3600.0), (0.0, math.inf)
FINISHED, FAILED = Entry(JobState.FINISHED, 2.0, ""), Entry(JobState.FAILED, 3.0, "")


SECRET = "whsec_" + base64.b64encode(b"a key for tests").decode()


def call(job: str, state: JobState, secret: str = SECRET, number: int = 0) -> Call:
    """Return a call about a job as the API makes it, signed by the receiver's own rule."""
    data = {"id": job, "state": state}
    body = json.dumps({"type": f"job.{state}", "number": number, "data": data}).encode()
    headers = {"webhook-id": f"msg_{job}", "webhook-timestamp": "1"}
    return Call(headers | {"webhook-signature": signature(secret, f"msg_{job}", "1", body)}, body)


def made(
    journal: Journal,
    observations: Observations,
    submissions: int,
    orphans: tuple[str, ...] = (),
    ran: tuple[float, float] = ANY_TIME,
    calls: Sequence[Call] | None = None,
) -> Report:
    """Return the report of a run whose webhooks, unless given, told of every ended job."""
    if calls is None:
        ended = {job: one.endings for job, one in journal.jobs.items() if one.endings}
        calls = [call(job, endings[-1].state) for job, endings in ended.items()]
    return make_report(
        journal, observations, [], submissions, list(orphans), [], ran, calls, SECRET
    )


def report_of(
    *entries: Entry, observations: Observations | None = None, orphans: tuple[str, ...] = ()
) -> Report:
    journal = Journal({"job": History(list(entries))}, {})
    observations = observations or Observations(accepted={"job": 0})
    return made(journal, observations, 1, orphans, RAN)


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
        (Observations(accepted={"job": 0}, undead={"job"}), "undead"),
        (Observations(accepted={"job": 0}, unlisted={"job"}), "unlisted"),
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
    return made(journal, observations, len(jobs))


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
        report = made(journal, Observations(), submissions=1)
        assert report.surplus == surplus


def test_garbage_is_detected() -> None:
    assert not report_of(QUEUED, RUNNING, FINISHED, orphans=("rq:job:1",)).passed


def test_retry_that_became_a_second_job_is_detected() -> None:
    history = History([QUEUED, RUNNING, FINISHED])
    journal = Journal({"job": history, "again": history}, {})
    expected = made(journal, Observations(), submissions=2)
    assert expected.passed
    doubled = made(journal, Observations(), submissions=1)
    assert doubled.surplus == 1


# ---- webhooks and batches ------------------------------------------------------------------------


def report_of_calls(*calls: Call, **observed: set[str]) -> Report:
    journal = Journal({"job": History([QUEUED, RUNNING, FINISHED])}, {})
    observations = Observations(accepted={"job": 0}, **observed)  # type: ignore[arg-type]
    return made(journal, observations, 1, calls=calls)


def test_job_that_nobody_was_told_of_is_detected() -> None:
    report = report_of_calls()
    assert report.untold == {"job"}
    assert not report.passed
    assert report_of_calls(deleting={"job"}).untold == set()


def test_ended_job_whose_webhook_was_lost_with_redis_may_be_untold() -> None:
    journal = Journal({"job": History([QUEUED, FINISHED], gone_at=10.0)}, {}, emptied=[10.0])
    assert made(journal, Observations(), 1, calls=()).untold == set()


def test_repeated_call_is_the_same() -> None:
    told = call("job", JobState.FINISHED)
    assert report_of_calls(told, told).passed
    changed = call("job", JobState.FINISHED, number=1)
    [found] = report_of_calls(told, changed).misinformed
    assert found.startswith("job: 2 bodies")


@pytest.mark.parametrize(
    "wrong",
    [
        call("job", JobState.FAILED),
        call("job", JobState.RUNNING),
        call("job", JobState.FINISHED, secret="whsec_" + base64.b64encode(b"another").decode()),
        Call({**call("job", JobState.FINISHED).headers, "webhook-id": "msg_2"}, b'{"type":"job.'
             b'finished","data":{"id":"job","state":"finished"}}'),
    ],
)  # fmt: skip
def test_wrong_call_is_detected(wrong: Call) -> None:
    report = report_of_calls(wrong)
    assert {found.partition(":")[0] for found in report.misinformed} == {"job"}
    assert not report.passed


def test_torn_batch_is_detected() -> None:
    name = "0" * 32
    batch = Batch([batch_job_id(name, number) for number in range(2)], {0})
    jobs = {job: History([QUEUED, RUNNING, FINISHED]) for job in batch.jobs}
    whole = made(Journal(jobs, {}, batches={name: batch}), Observations(), 2)
    assert (whole.torn, whole.passed) == (set(), True)
    half = Journal({batch.jobs[0]: jobs[batch.jobs[0]]}, {}, batches={name: batch})
    report = made(half, Observations(), 2)
    assert (report.torn, report.passed) == ({name}, False)

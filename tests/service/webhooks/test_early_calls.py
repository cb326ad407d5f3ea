"""Calls before a job's end: once for its beginning, then at each change of its progress."""

import pytest

from protocol.connection.redis_client import connect
from protocol.queue.job import JobResult, JobState, JobView, Progress, Timings
from protocol.queue.job_queue import Submission
from protocol.queue.webhooks import DUE, Delivery, WebhookEvent, WebhookQueue, WebhookTarget
from protocol.queue.webhooks import delivery_key as delivery_key_of
from protocol.request.object_keys import new_job_id
from service.webhooks.sender import early_event
from tests.worker.consumer.harness import MODEL, client, job_queue, request, settings
from worker.consumer.rq_worker import RqJobSource

START, PROGRESS, END = WebhookEvent
JOB = new_job_id()


def target(*events: WebhookEvent) -> WebhookTarget:
    return WebhookTarget(
        url="http://example.org/", base_url="http://here", client="ann", form="x", events=events
    )


def view(state: JobState, step: int | None = None) -> JobView:
    progress = None if step is None else Progress(job_id=JOB, state=state, step=step, steps=4)
    return JobView(id=JOB, state=state, progress=progress)


def told(job: JobView, before: str, *events: WebhookEvent) -> str | None:
    event = early_event(job, Delivery(JOB, target(*events), 0, b"", before))
    return event and event[1]


@pytest.mark.parametrize(
    ("job", "before", "events", "expected"),
    [
        (view(JobState.QUEUED), "", (START, PROGRESS, END), None),
        (view(JobState.RUNNING, 2), "", (START, PROGRESS, END), "start"),
        (view(JobState.RUNNING, 2), "start", (START, PROGRESS, END), "step-2"),
        (view(JobState.RUNNING, 2), "step-2", (START, PROGRESS, END), None),
        (view(JobState.RUNNING, 3), "step-2", (PROGRESS,), "step-3"),
        (view(JobState.RUNNING), "", (PROGRESS,), None),
        (view(JobState.RUNNING, 2), "start", (START, END), None),
        (view(JobState.RUNNING, 2), "", (END,), None),
        (view(JobState.FAILED), "", (START,), "start"),
        (view(JobState.FAILED), "start", (START, PROGRESS), None),
    ],
)
def test_event(
    job: JobView, before: str, events: tuple[WebhookEvent, ...], expected: str | None
) -> None:
    assert told(job, before, *events) == expected


def test_job_that_has_ended_is_told_to_have_begun() -> None:
    event = early_event(view(JobState.FINISHED, 4), Delivery(JOB, target(START), 0, b""))
    assert event is not None
    assert event[0].state is JobState.RUNNING
    assert event[0].progress is None


@pytest.mark.parametrize(("events", "due"), [((START,), 1), ((PROGRESS, END), 1), ((END,), 0)])
def test_watched_job_is_due_when_it_begins(
    redis_url: str, events: tuple[WebhookEvent, ...], due: int
) -> None:
    queue, webhooks = job_queue(redis_url), WebhookQueue(client(redis_url))
    queue.submit_many([Submission(request(), JOB, webhook=target(*events))])
    assert webhooks.claim(8, lease_s=60) == []
    source = RqJobSource(client(redis_url), "worker", [MODEL], settings(redis_url))
    assert source.claim(idle=True, models=[MODEL])
    found = webhooks.claim(8, lease_s=60)
    assert [(one.job_id, one.target) for one in found] == [(JOB, target(*events))] * due


def test_postponed_delivery_remembers_what_was_told(redis_url: str) -> None:
    redis = connect(redis_url)
    redis.zadd(DUE, {JOB: 0})
    redis.hset(delivery_key_of(JOB), "target", target(START).model_dump_json())
    queue = WebhookQueue(redis)
    queue.watch(JOB, 60.0, "start")  # the job has ended, so it is due at once
    [found] = queue.claim(8, lease_s=60)
    assert found.told == "start"


def test_deleted_delivery_is_not_written_again(redis_url: str) -> None:
    redis = connect(redis_url)
    WebhookQueue(redis).postpone(JOB, 0.0, 1)
    WebhookQueue(redis).watch(JOB, 0.0, "start")
    assert redis.keys("*") == []


def test_job_that_ends_during_a_call_is_due_after_it(redis_url: str) -> None:
    """Calls of one job are made one by one, whichever processes make them."""
    queue, webhooks = job_queue(redis_url), WebhookQueue(client(redis_url))
    queue.submit_many([Submission(request(), JOB, webhook=target(START, END))])
    source = RqJobSource(client(redis_url), "worker", [MODEL], settings(redis_url))
    claim = source.claim(idle=True, models=[MODEL])
    assert claim is not None
    assert len(webhooks.claim(8, lease_s=60)) == 1
    source.finish(claim, JobResult(images=(), timings=Timings()))
    assert webhooks.claim(8, lease_s=60) == []
    webhooks.watch(JOB, 60.0, "start")
    [found] = webhooks.claim(8, lease_s=60)
    assert found.told == "start"

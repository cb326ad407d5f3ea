"""A webhook is due as soon as a job ends, in whatever way, and not before."""

import pytest

from protocol.connection.redis_client import connect
from protocol.queue.job_queue import JobQueue, Submission
from protocol.queue.webhooks import WebhookQueue, WebhookTarget
from protocol.settings import Settings
from tests.worker.consumer.harness import request, running_worker, settings
from tests.worker.consumer.test_deadlines import pass_deadline

TARGET = WebhookTarget(url="http://example.org/", base_url="http://here", client="")


def submitted(redis_url: str) -> tuple[JobQueue, WebhookQueue, str]:
    redis = connect(redis_url)
    queue = JobQueue(redis, Settings(redis_url=redis_url))
    [job_id] = queue.submit_many([Submission(request(), webhook=TARGET)])
    assert isinstance(job_id, str)
    return queue, WebhookQueue(redis), job_id


def due(webhooks: WebhookQueue) -> list[str]:
    return [delivery.job_id for delivery in webhooks.claim(8, lease_s=0.0)]


@pytest.mark.parametrize("end", ["finished", "cancelled", "late"])
def test_due_when_the_job_has_ended(redis_url: str, end: str) -> None:
    queue, webhooks, job_id = submitted(redis_url)
    assert due(webhooks) == []
    match end:
        case "finished":
            with running_worker(settings(redis_url)):
                while not due(webhooks):
                    pass
        case "cancelled":
            queue.cancel(job_id)
        case "late":  # no worker is alive, and nobody looks at the job
            pass_deadline(redis_url, job_id)
            connect(redis_url).zadd("darkroom:webhooks", {job_id: 0})
    assert due(webhooks) == [job_id]
    state = queue.view(job_id).state.value
    assert state == ("failed" if end == "late" else end)

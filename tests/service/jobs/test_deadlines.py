"""A waiting request ends at its deadline, and every route shows it, without a live worker."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from service.telemetry.queue_stats_collector import QueueStatsCollector
from tests.service.conftest import Running, running

DEADLINE_S = 0.6
NO_POLL_S = 60.0  # longer than any test: only the deadline makes the service look
ANSWER_S = 20.0
ASYNC = {"Prefer": "respond-async"}


def submit(service: Running, **fields: object) -> str:
    body = {"prompt": "x", **fields}
    response = service.client.post("/v1/txt2img", json=body, headers=ASYNC)
    job_id: str = response.raise_for_status().json()["id"]
    return job_id


def hold(service: Running, state: str) -> None:
    """Let the worker freeze, before it takes a job or while it runs one."""
    service.worker.hold_at_step = 0 if state == "running" else -1
    service.worker.hold()


def wait_for_state(service: Running, job_id: str, state: str) -> None:
    """Wait until a held job does not change any more: one that runs has published its step."""
    while (job := service.client.get(f"/v1/jobs/{job_id}").json())["state"] != state or (
        state == "running" and "progress" not in job
    ):
        time.sleep(0.01)


@pytest.mark.parametrize("state", ["queued", "running"])
def test_waiting_request_ends_at_its_deadline(redis_url: str, state: str) -> None:
    with running(redis_url, poll_s=NO_POLL_S) as service:
        hold(service, state)
        body = {"prompt": "x", "deadline_s": DEADLINE_S}
        began = time.monotonic()
        response = service.client.post("/v1/txt2img", json=body, timeout=ANSWER_S)
        assert time.monotonic() - began >= DEADLINE_S
        assert response.status_code == 504
        assert response.json()["type"].endswith(":deadline-exceeded")
        assert f"{DEADLINE_S:g} seconds" in response.json()["detail"]


def test_lifetime_ends_a_waiting_request(redis_url: str) -> None:
    with running(redis_url, job_lifetime_s=60) as service, ThreadPoolExecutor(1) as clients:
        hold(service, "queued")
        url = f"{service.url}/v1/txt2img"
        answer = clients.submit(httpx.post, url, json={"prompt": "x"}, timeout=ANSWER_S)
        while not (job_ids := service.worker.waiting()):
            time.sleep(0.01)
        service.worker.redis.hset(f"rq:job:{job_ids[0]}", "deadline_at", 1.0)
        response = answer.result()
        assert response.status_code == 504
        assert "60 seconds" in response.json()["detail"]


@pytest.mark.parametrize("state", ["queued", "running"])
def test_every_route_shows_that_a_job_was_late(service: Running, state: str) -> None:
    hold(service, state)
    job_id = submit(service)
    wait_for_state(service, job_id, state)
    service.worker.redis.hset(f"rq:job:{job_id}", "deadline_at", 1.0)
    path = f"/v1/jobs/{job_id}"
    image = service.client.get(f"{path}/images/0")
    assert image.status_code == 404
    assert not image.json()["detail"].endswith("yet")
    job = service.client.get(path).json()
    assert job["state"] == "failed"
    assert job["error"]["type"].endswith(":deadline-exceeded")
    assert service.client.delete(path).json() == job


@pytest.mark.parametrize("state", ["queued", "running"])
def test_event_stream_ends_at_the_deadline(redis_url: str, state: str) -> None:
    with running(redis_url, poll_s=NO_POLL_S) as service:
        hold(service, state)
        job_id = submit(service, deadline_s=2.0)
        wait_for_state(service, job_id, state)
        url = f"{service.url}/v1/jobs/{job_id}/events"
        with httpx.stream("GET", url, timeout=ANSWER_S) as events:
            lines = [line for line in events.iter_lines() if line]
        # Nothing but the end: the time that is left is no change of the job.
        assert [line for line in lines if line.startswith("event:")] == [
            f"event: {state}",
            "event: failed",
        ]
        data = [line for line in lines if line.startswith("data:")]
        last = json.loads(data[-1].removeprefix("data: "))
        assert last["error"]["type"].endswith(":deadline-exceeded")


def test_scrape_ends_late_jobs(service: Running, redis_url: str) -> None:
    """Jobs that no client looks at, so that the queue's alerts do not count them."""
    hold(service, "queued")
    job_id = submit(service)
    redis = service.worker.redis
    redis.hset(f"rq:job:{job_id}", "deadline_at", 1.0)
    redis.zadd("darkroom:deadlines:darkroom-tiny", {job_id: 1.0})
    collector = QueueStatsCollector(redis_url)
    try:
        samples = [sample for metric in collector.collect() for sample in metric.samples]
    finally:
        collector.close()
    depths = [one.value for one in samples if one.name == "darkroom_queue_depth"]
    assert depths
    assert sum(depths) == 0
    assert redis.hget(f"rq:job:{job_id}", "status") == b"failed"

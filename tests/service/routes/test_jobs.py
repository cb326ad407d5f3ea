"""Jobs by HTTP: queued, running, followed, cancelled, failed, and with disconnected clients."""

import json
import socket
import struct
import time
from collections.abc import Generator
from contextlib import closing
from threading import Thread

import httpx
import pytest

from protocol.errors import DarkroomError, InvalidRequest, JobFailed
from service.routes.deps import Services
from tests.service.conftest import Running
from tests.service.raw_http import HEAD, connected

ASYNC = {"Prefer": "respond-async"}


def submit(service: Running, **fields: object) -> str:
    """Queue a job and return its path."""
    response = service.client.post("/v1/txt2img", json={"prompt": "x", **fields}, headers=ASYNC)
    assert response.status_code == 202, response.text
    return response.headers["location"]


def events(service: Running, path: str) -> Generator[tuple[str, dict[str, object]]]:
    """Yield the name and data of each server-sent event of a job."""
    with httpx.stream("GET", f"{service.url}{path}/events", timeout=30) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in response.iter_lines():
            key, _, value = line.partition(": ")
            if key == "event":
                name = value
            if key == "data":
                yield name, json.loads(value)


def until(service: Running, path: str, state: str) -> dict[str, object]:
    """Wait until the job is in `state` and return it."""
    while (job := service.client.get(path).json())["state"] != state:
        time.sleep(0.01)
    return dict(job)


def test_queued_jobs_have_positions(service: Running) -> None:
    service.worker.hold()
    paths = [submit(service) for _ in range(3)]
    jobs = [service.client.get(path).json() for path in paths]
    assert [(job["state"], job["position"]) for job in jobs] == [
        ("queued", 0),
        ("queued", 1),
        ("queued", 2),
    ]


def test_running_job_reports_its_steps(service: Running) -> None:
    service.worker.hold_at_step = 2
    service.worker.hold()
    path = submit(service)
    until(service, path, "running")
    while (progress := service.client.get(path).json().get("progress")) is None or (
        progress["step"] < 2
    ):
        time.sleep(0.01)
    assert progress == {"step": 2, "steps": 4, "phase": "denoise"}


def test_events_follow_a_job_to_its_end(service: Running) -> None:
    service.worker.hold()
    path = submit(service, steps=20)
    seen = []
    with closing(events(service, path)) as stream:
        for name, job in stream:
            seen.append((name, job))
            service.worker.release()
    assert seen[0][0] == "queued"
    assert seen[-1][0] == "finished"
    assert seen[-1][1] == service.client.get(path).json()
    running = [job for name, job in seen if name == "running"]
    steps = [job["progress"]["step"] for job in running if "progress" in job]  # type: ignore[index]
    assert steps
    assert steps == sorted(steps)


def test_closed_event_stream_is_released(service: Running) -> None:
    service.worker.hold()
    services: Services = service.app.state.services
    with closing(events(service, submit(service))) as stream:
        assert next(stream)[0] == "queued"
        assert services.watcher.watched == 1
    while services.watcher.watched:
        time.sleep(0.01)


def test_cancel_while_waiting(service: Running) -> None:
    service.worker.hold()
    path = submit(service)
    assert service.client.delete(path).json()["state"] == "cancelled"
    service.worker.release()
    service.client.post("/v1/txt2img", json={"prompt": "another"}).raise_for_status()
    assert [request.prompt for request in service.worker.seen] == ["another"]


def test_cancel_while_running(service: Running) -> None:
    service.worker.hold_at_step = 2
    service.worker.hold()
    path = submit(service)
    until(service, path, "running")
    service.client.delete(path).raise_for_status()
    assert until(service, path, "cancelled")["id"]


def test_waiting_client_gets_the_cancellation(service: Running) -> None:
    service.worker.hold()
    responses: list[httpx.Response] = []
    url = f"{service.url}/v1/txt2img"
    client = Thread(
        target=lambda: responses.append(httpx.post(url, json={"prompt": "x"}, timeout=60))
    )
    client.start()
    while not (job_ids := service.worker.waiting()):
        time.sleep(0.01)
    (job_id,) = job_ids
    service.client.delete(f"/v1/jobs/{job_id}").raise_for_status()
    client.join()
    assert responses[0].status_code == 409
    assert responses[0].json()["type"].endswith(":job-cancelled")


def test_cancel_does_not_change_an_ended_job(service: Running) -> None:
    body = service.client.post("/v1/txt2img", json={"prompt": "x"}).json()
    assert service.client.delete(f"/v1/jobs/{body['id']}").json()["state"] == "finished"


@pytest.mark.parametrize(
    ("error", "status", "problem"),
    [
        (JobFailed("the images are black"), 500, "job-failed"),
        (InvalidRequest("width", 64, "smaller", "too-many-pixels"), 422, "too-many-pixels"),
        (DarkroomError(), 500, "internal"),
    ],
)
def test_worker_error_becomes_the_clients_problem(
    service: Running, error: DarkroomError, status: int, problem: str
) -> None:
    service.worker.error = error
    response = service.client.post("/v1/txt2img", json={"prompt": "x"})
    assert response.status_code == status
    assert response.json()["detail"] == error.message
    job = service.client.get(response.json()["job"]).json()
    assert job["state"] == "failed"
    assert job["error"]["type"].endswith(problem)


def test_full_queue_responds_429(service: Running) -> None:
    service.worker.hold()
    for _ in range(8):
        submit(service)
    response = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=ASYNC)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_job_survives_disconnect_of_its_client(service: Running, reset: bool) -> None:
    """A reset ends the wait at once; a closed connection may be half-closed, and waits on."""
    service.worker.hold()
    services: Services = service.app.state.services
    body = b'{"prompt": "disconnected"}'
    with closing(connected(service)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        while not services.watcher.watched:
            time.sleep(0.01)
    while reset and services.watcher.watched:
        time.sleep(0.01)
    service.worker.release()
    while services.watcher.watched:
        time.sleep(0.01)
    while not service.worker.seen:
        time.sleep(0.01)
    assert service.worker.seen[0].prompt == "disconnected"


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_job_is_cancelled_with_its_client_on_request(service: Running, reset: bool) -> None:
    service.worker.hold()
    body = b'{"prompt": "disconnected", "cancel_on_disconnect": true}'
    with closing(connected(service)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        while not (job_ids := service.worker.waiting()):
            time.sleep(0.01)
    assert until(service, f"/v1/jobs/{job_ids[0]}", "cancelled")
    service.worker.release()
    service.client.post("/v1/txt2img", json={"prompt": "another"}).raise_for_status()
    assert [request.prompt for request in service.worker.seen] == ["another"]


def test_job_that_another_request_waits_for_is_not_cancelled(service: Running) -> None:
    service.worker.hold()
    services: Services = service.app.state.services
    body = {"prompt": "x", "cancel_on_disconnect": True}
    headers = {"Idempotency-Key": "order 1"}
    responses: list[httpx.Response] = []

    def wait() -> None:
        url = f"{service.url}/v1/txt2img"
        responses.append(httpx.post(url, json=body, headers=headers, timeout=30))

    patient = Thread(target=wait)
    patient.start()
    while not services.watcher.watched:
        time.sleep(0.01)
    impatient = httpx.Timeout(30, read=0.3)
    with pytest.raises(httpx.ReadTimeout):
        service.client.post("/v1/txt2img", json=body, headers=headers, timeout=impatient)
    service.worker.release()
    patient.join()
    assert responses[0].status_code == 200


def test_disconnect_during_upload_is_harmless(
    service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(connected(service)) as connection:
        connection.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"prompt": "x')
    counted = 'method="POST",route="/v1/txt2img",status="499"} 1.0'
    while counted not in service.client.get("/metrics").text:
        time.sleep(0.01)
    assert not caplog.records
    assert not service.worker.seen


def test_missing_images_respond_404(service: Running) -> None:
    body = service.client.post("/v1/txt2img", json={"prompt": "x"}).json()
    images = f"/v1/jobs/{body['id']}/images"
    assert service.client.get(f"{images}/0").status_code == 200
    for index, status, field in (("1", 404, None), ("-1", 422, "index"), ("1.5", 422, "index")):
        response = service.client.get(f"{images}/{index}")
        assert (response.status_code, response.json().get("field")) == (status, field)
    service.worker.hold()
    unfinished = submit(service)
    response = service.client.get(f"{unfinished}/images/0")
    assert response.status_code == 404
    assert response.json()["detail"].endswith("yet")

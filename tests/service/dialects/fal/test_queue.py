"""The queue of fal: its states, results, cancellation and the stream of states."""

import threading

from protocol.errors import JobFailed
from tests.service.conftest import Running
from tests.service.dialects.fal.asking import (
    QUEUE,
    check_error,
    completed,
    events,
    queued,
)
from tests.service.sample_images import opened, same

KEYS = {"status", "request_id", "response_url", "status_url", "cancel_url", "queue_position"}
ALL_KEYS = KEYS | {"logs", "metrics", "error", "error_type"}


def test_a_request_from_its_submission_to_its_result(fal: Running) -> None:
    fal.worker.hold()
    first, second = (queued(fal, seed=seed) for seed in (7, 8))
    assert first.keys() == KEYS
    assert first["response_url"] == f"{fal.url}{QUEUE}/requests/{first['request_id']}"
    state = fal.client.get(second["status_url"]).json()
    assert (state.keys(), state["status"], state["queue_position"]) == (ALL_KEYS, "IN_QUEUE", 1)
    assert "in progress" in check_error(fal.client.get(second["response_url"]), 400)
    fal.worker.hold_at_step = 2
    while (state := fal.client.get(first["status_url"]).json())["status"] == "IN_QUEUE":
        pass
    assert (state["status"], state["logs"]) == ("IN_PROGRESS", None)
    fal.worker.release()
    assert completed(fal, second)["status"] == "COMPLETED"
    state = fal.client.get(f"{first['status_url']}?logs=1").json()
    assert (state["status"], state["error"], state["metrics"]) == (
        *("COMPLETED", None),
        {"inference_time": 1.0},
    )
    assert state["logs"][0]["message"].startswith("100%|")
    response = fal.client.get(first["response_url"])
    assert response.headers["x-fal-request-id"] == first["request_id"]
    body = response.json()
    assert (body["seed"], body["prompt"]) == (7, "a cat")
    native = fal.client.post("/v1/txt2img", json={"prompt": "a cat", "seed": 7}).json()
    image = opened(fal.client.get(body["images"][0]["url"]).content)
    assert same(image, opened(native["images"][0]["base64"]))


def test_logs_are_the_progress(fal: Running) -> None:
    fal.worker.hold()
    fal.worker.hold_at_step = 2
    request = queued(fal, num_inference_steps=4)
    url = f"{request['status_url']}?logs=1"
    while not (found := fal.client.get(url).json()["logs"]):
        pass
    assert found[0].keys() == {"message", "timestamp", "level", "source"}
    while fal.client.get(url).json()["logs"][0]["message"] != f" 50%|{'█' * 10}{' ' * 10}| 2/4":
        pass
    fal.worker.release()
    completed(fal, request)


def test_the_last_part_of_an_app_is_not_in_the_addresses(fal: Running) -> None:
    request = queued(fal, f"{QUEUE}/text-to-image")
    assert request["status_url"].endswith(f"{QUEUE}/requests/{request['request_id']}/status")
    completed(fal, request)


def test_sync_mode_is_kept(fal: Running) -> None:
    request = queued(fal, sync_mode=True)
    completed(fal, request)
    result = fal.client.get(request["response_url"]).json()
    assert result["images"][0]["url"].startswith("data:image/png;base64,")


def test_stream_of_states(fal: Running) -> None:
    fal.worker.hold()
    request = queued(fal, num_inference_steps=4)
    timer = threading.Timer(0.1, fal.worker.release)
    timer.start()
    found = events(fal.client.get(f"{request['status_url']}/stream?logs=1"))
    timer.join()
    assert [found[0]["status"], found[-1]["status"]] == ["IN_QUEUE", "COMPLETED"]
    assert all(state.keys() == ALL_KEYS for state in found)
    messages = [line["message"] for state in found for line in state["logs"]]
    assert messages[-1].startswith("100%")
    assert len(messages) == len(set(messages)), "a client adds them up"


def test_failure(fal: Running) -> None:
    fal.worker.error = JobFailed("the worker died while it ran")
    try:
        request = queued(fal)
        state = completed(fal, request)
    finally:
        fal.worker.error = None
    assert (state["status"], state["error_type"]) == ("COMPLETED", "job_failed")
    assert "the worker died" in state["error"]
    assert "the worker died" in check_error(fal.client.get(request["response_url"]), 500)


def test_cancelling(fal: Running) -> None:
    fal.worker.hold()
    request = queued(fal)
    for _ in range(2):
        response = fal.client.put(request["cancel_url"])
        assert (response.status_code, response.json()["status"]) == (202, "CANCELLATION_REQUESTED")
    fal.worker.release()
    state = completed(fal, request)
    assert (state["status"], state["error_type"]) == ("COMPLETED", "job_cancelled")
    check_error(fal.client.get(request["response_url"]), 400)
    done = queued(fal)
    completed(fal, done)
    response = fal.client.put(done["cancel_url"])
    assert (response.status_code, response.json()["status"]) == (400, "ALREADY_COMPLETED")


def test_unknown_requests(fal: Running) -> None:
    """A job of another API is no request of fal."""
    job = fal.client.post("/v1/txt2img", json={"prompt": "x"}).json()["id"]
    for request_id in (job, "0" * 32):
        for path in ("", "/status", "/status/stream"):
            check_error(fal.client.get(f"{QUEUE}/requests/{request_id}{path}"), 404)
        check_error(fal.client.put(f"{QUEUE}/requests/{request_id}/cancel"), 404)
    check_error(fal.client.get(f"{QUEUE}/requests/x/status"), 422)

"""Predictions: created, waited for, polled, listed, cancelled."""

import re
import time
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from protocol.errors import JobFailed
from service.dialects.replicate.names import version_id
from service.dialects.replicate.submission import wait_of
from tests.service.conftest import ABLE, Running
from tests.service.dialects.replicate.asking import (
    MODEL_PATH,
    PATH,
    WAIT,
    create,
    generated,
    refused,
)
from tests.service.sample_images import opened

PATIENCE_S = 60.0
VERSION = version_id(ABLE)


def get(service: Running, prediction_id: str) -> dict[str, Any]:
    response = service.client.get(f"{PATH}/{prediction_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def wait_for(service: Running, prediction_id: str, status: str) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE_S
    while (found := get(service, prediction_id))["status"] != status:
        assert time.monotonic() < until, found
        time.sleep(0.02)
    return found


def test_prediction_that_is_waited_for_has_its_images(replicate: Running) -> None:
    found, request = generated(replicate, seed=4, num_outputs=2)
    assert (found["model"], found["version"]) == ("stability-ai/tiny", VERSION)
    assert (found["error"], found["metrics"]["image_count"]) == (None, 2)
    assert found["created_at"] <= found["started_at"] <= found["completed_at"]
    assert len(found["output"]) == request.n == 2
    for url in found["output"]:
        assert re.fullmatch(rf"{replicate.url}/v1/jobs/{found['id']}/images/\d\.png", url)
        assert opened(httpx.get(url, timeout=60).content).size == (64, 64)
    assert get(replicate, found["id"]) == found


def test_prediction_that_is_not_waited_for_is_starting(replicate: Running) -> None:
    response = create(replicate, {"prompt": "x"})
    assert response.status_code == 201
    found = response.json()
    assert (found["status"], found["output"]) == ("starting", None)
    assert wait_for(replicate, found["id"], "succeeded")["output"]


def test_running_prediction_is_starting_when_the_wait_runs_out(replicate: Running) -> None:
    """Clients that wait take any other state for the end."""
    replicate.worker.hold_at_step = 2
    replicate.worker.hold()
    try:
        found = create(replicate, {"prompt": "x"}, {"Prefer": "wait=1"}).json()
        assert (found["status"], found["output"]) == ("starting", None)
        running = wait_for(replicate, found["id"], "processing")
        assert running["output"] is None
        assert running["completed_at"] is None
    finally:
        replicate.worker.release()
    assert wait_for(replicate, found["id"], "succeeded")["id"] == found["id"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("respond-async", None),
        ("wait", 59.5),
        ("Wait=5", 4.5),
        ("foo, wait=2.5;x=1", 2.0),
        ("wait=1000", 59.5),
        ("wait=0", 0.0),
        ("wait=-5", 0.0),
        ("wait=x", 59.5),
        ("wait=1e999", 59.5),
    ],
)
def test_wait_is_bounded_below_what_clients_read_for(
    header: str | None, expected: float | None
) -> None:
    assert wait_of(Headers({"prefer": header} if header is not None else {})) == expected


def test_logs_have_the_progress_as_clients_read_it(replicate: Running) -> None:
    replicate.worker.hold_at_step = 2
    replicate.worker.hold()
    try:
        found = create(replicate, {"prompt": "x", "num_inference_steps": 4}).json()
        until = time.monotonic() + PATIENCE_S
        while "2/4" not in (logs := get(replicate, found["id"])["logs"]):
            assert time.monotonic() < until, logs
            time.sleep(0.02)
    finally:
        replicate.worker.release()
    # The pattern of both clients of Replicate.
    pattern = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)/(\d+)")
    lines = [pattern.match(line) for line in logs.splitlines()]
    assert [line and line.groups() for line in lines] == [
        ("0", "0", "4"),
        ("25", "1", "4"),
        ("50", "2", "4"),
    ]
    assert wait_for(replicate, found["id"], "succeeded")["logs"].startswith(logs)


@pytest.mark.parametrize(
    "version", [VERSION, "tiny", "any/tiny", f"any/tiny:{VERSION}", "any/other:tiny"]
)
def test_version_names_a_model(replicate: Running, version: str) -> None:
    found = create(replicate, {"prompt": "x"}, WAIT, PATH, version=version).json()
    assert (found["status"], found["version"]) == ("succeeded", VERSION)
    expected = version.partition(":")[0] if "/" in version else "darkroom/tiny"
    assert found["model"] == expected


@pytest.mark.parametrize("version", [None, 5, "", "nope", "a/b/tiny", "a/nope", "f" * 64])
def test_unknown_version_is_refused(replicate: Running, version: object) -> None:
    assert refused(replicate, {"prompt": "x"}, path=PATH, version=version)["field"] == "version"


def test_deployment_is_a_model(replicate: Running) -> None:
    path = "/v1/deployments/me/tiny/predictions"
    found = create(replicate, {"prompt": "x"}, WAIT, path).json()
    assert (found["status"], found["model"]) == ("succeeded", "me/tiny")


@pytest.mark.parametrize("kind", ["models", "deployments"])
def test_unknown_model_is_not_found(replicate: Running, kind: str) -> None:
    response = create(replicate, {"prompt": "x"}, path=f"/v1/{kind}/a/nope/predictions")
    assert response.status_code == 404
    assert response.json()["detail"] == "there is no model a/nope"
    assert isinstance(response.json().get("error", ""), str)  # the AI SDK refuses anything else


def test_failed_prediction_has_its_error(replicate: Running) -> None:
    replicate.worker.error = JobFailed("no reason")
    try:
        found = create(replicate, {"prompt": "x"}, WAIT).json()
    finally:
        replicate.worker.error = None
    assert (found["status"], found["output"]) == ("failed", None)
    assert "no reason" in found["error"]


@pytest.mark.parametrize("step", [-1, 1])
def test_cancelled_prediction_is_canceled(replicate: Running, step: int) -> None:
    """One that waits is cancelled at once, one that runs after its step."""
    replicate.worker.hold_at_step = step
    replicate.worker.hold()
    try:
        found = create(replicate, {"prompt": "x"}).json()
        if step > 0:
            wait_for(replicate, found["id"], "processing")
        response = replicate.client.post(f"{PATH}/{found['id']}/cancel")
        assert response.status_code == 200
        assert (response.json()["status"], response.json()["output"]) == ("canceled", None)
    finally:
        replicate.worker.release()
    again = replicate.client.post(f"{PATH}/{found['id']}/cancel")
    assert again.json()["status"] == "canceled"


def test_list_has_pages_and_no_jobs_of_other_apis(
    replicate: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dialects.replicate.routes.PAGE", 2)
    other = replicate.client.post("/v1/txt2img", json={"prompt": "x", "response": "url"}).json()
    mine = [create(replicate, {"prompt": "x"}, WAIT).json() for _ in range(3)]
    page = replicate.client.get(PATH).json()
    assert page["results"] == mine[:0:-1]
    assert page["previous"] is None
    following = replicate.client.get(page["next"]).json()
    assert following["results"][0] == mine[0]
    listed, url = set[str](), PATH
    while url:
        page = replicate.client.get(url).json()
        listed |= {one["id"] for one in page["results"]}
        url = page["next"]
    assert other["id"] not in listed
    assert replicate.client.get(PATH, params={"cursor": "x"}).status_code == 422


def test_job_of_another_api_is_no_prediction(replicate: Running) -> None:
    other = replicate.client.post("/v1/txt2img", json={"prompt": "x", "response": "url"}).json()
    for method, end in (("GET", ""), ("POST", "/cancel"), ("GET", "/stream")):
        response = replicate.client.request(method, f"{PATH}/{other['id']}{end}")
        assert response.status_code == 404, end


def test_purged_prediction_is_gone(replicate: Running) -> None:
    found, _ = generated(replicate)
    replicate.client.delete(f"/v1/jobs/{found['id']}", params={"purge": True})
    assert replicate.client.get(f"{PATH}/{found['id']}").status_code == 404


def test_repeated_request_is_the_same_prediction(replicate: Running) -> None:
    headers = WAIT | {"Idempotency-Key": "once"}
    first, again = (create(replicate, {"prompt": "x"}, headers).json() for _ in range(2))
    assert first == again


def test_full_queue_is_a_429_with_a_text(replicate: Running) -> None:
    replicate.worker.hold()
    ids = []
    try:
        while (response := create(replicate, {"prompt": "x"})).status_code == 201:
            ids.append(response.json()["id"])
        assert response.status_code == 429
        assert isinstance(response.json()["detail"], str)
        assert response.headers["retry-after"]
    finally:
        for prediction_id in ids:
            replicate.worker.redis.hset(f"rq:job:{prediction_id}", "cancel", 1)
        replicate.worker.release()
    wait_for(replicate, ids[-1], "canceled")


def test_errors_of_the_path_of_predictions_are_problems(replicate: Running) -> None:
    """The other routes of models have OpenAI's error beside the problem."""
    wrong = replicate.client.post(MODEL_PATH, content=b"{")
    assert wrong.status_code == 400
    assert "error" not in wrong.json()
    assert "error" in replicate.client.get("/v1/models/a/nope").json()

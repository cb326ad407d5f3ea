"""Results by their id, and whose they are."""

import time
from collections.abc import Iterator

import httpx
import pytest

from protocol.errors import JobFailed
from tests.service.conftest import Running, running
from tests.service.dialects.stability.asking import JSON, MODEL_CARD, V2, check_error
from tests.service.keys import ADMIN, ADMIN_KEY, key_for
from tests.service.sample_images import gradient, opened, packed
from tests.support.redis_server import RedisServer

CREATIVE = f"{V2}/upscale/creative"
IMAGE = packed(gradient(16, 16))


@pytest.fixture(scope="module")
def locked(redis_server: RedisServer) -> Iterator[Running]:
    """Run a service that needs keys."""
    with running(redis_server.url, MODEL_CARD, auth="required", admin_key=ADMIN_KEY) as service:
        yield service


@pytest.fixture(scope="module")
def keys(locked: Running) -> list[dict[str, str]]:
    return [key_for(locked), key_for(locked)]


def started(service: Running, key: dict[str, str]) -> str:
    """Begin an upscaling, and return its id."""
    form = {"prompt": "a cat", "creativity": "0.5", "output_format": "webp"}
    response = service.client.post(
        CREATIVE, data=form, files={"image": ("a.png", IMAGE)}, headers=key
    )
    assert response.status_code == 200, response.text
    assert response.json().keys() == {"id"}
    return str(response.json()["id"])


def result(service: Running, path: str, headers: dict[str, str]) -> httpx.Response:
    """Return a result as soon as the job has ended."""
    until = time.monotonic() + 60
    while (response := service.client.get(path, headers=headers)).status_code == 202:
        assert response.json() == {"id": path.rpartition("/")[2], "status": "in-progress"}
        assert time.monotonic() < until
        time.sleep(0.01)
    return response


def test_a_result_by_its_id(locked: Running, keys: list[dict[str, str]]) -> None:
    locked.worker.hold()
    job = started(locked, keys[0])
    path = f"/v2beta/results/{job}"
    waiting = locked.client.get(path, headers=keys[0])
    assert (waiting.status_code, waiting.json()) == (202, {"id": job, "status": "in-progress"})
    locked.worker.release()
    found = result(locked, path, {**keys[0], **JSON}).json()
    assert found["finish_reason"] == "SUCCESS"
    assert opened(found["image"]).format == "WEBP"
    asked = locked.worker.seen[-1]
    assert (asked.tiles is not None, asked.strength, asked.seed) == (True, 0.5, found["seed"])
    file = result(locked, f"{CREATIVE}/result/{job}", keys[0])
    assert file.headers["content-type"] == "image/webp"
    assert file.headers["seed"] == str(found["seed"])
    assert opened(file.content).size == opened(found["image"]).size


def test_no_key_sees_the_result_of_another(locked: Running, keys: list[dict[str, str]]) -> None:
    job = started(locked, keys[0])
    for path in (f"/v2beta/results/{job}", f"{CREATIVE}/result/{job}"):
        check_error(locked.client.get(path, headers=keys[1]), 404, "not_found")
        assert result(locked, path, keys[0]).status_code == 200
        check_error(locked.client.get(path, headers=keys[1]), 404, "not_found")
        check_error(locked.client.get(path), 401, "unauthorized")
        assert result(locked, path, ADMIN).status_code == 200


@pytest.mark.parametrize("name", ["0" * 32, "0" * 64, "x", "%00", "%ff", "a" * 5000])
def test_unknown_results(locked: Running, keys: list[dict[str, str]], name: str) -> None:
    response = locked.client.get(f"/v2beta/results/{name}", headers=keys[0])
    check_error(response, 404, "not_found")


def test_failed_cancelled_and_deleted_results(locked: Running, keys: list[dict[str, str]]) -> None:
    locked.worker.error = JobFailed("out of memory")
    job = started(locked, keys[0])
    failed = result(locked, f"/v2beta/results/{job}", keys[0])
    locked.worker.error = None
    assert "out of memory" in check_error(failed, 500, "server_error")
    locked.worker.hold()
    job = started(locked, keys[0])
    locked.client.delete(f"/v1/jobs/{job}", headers=keys[0]).raise_for_status()
    cancelled = locked.client.get(f"/v2beta/results/{job}", headers=keys[0])
    check_error(cancelled, 409, "job_cancelled")
    locked.worker.release()
    purge = {"purge": "true"}
    locked.client.delete(f"/v1/jobs/{job}", params=purge, headers=keys[0]).raise_for_status()
    deleted = locked.client.get(f"/v2beta/results/{job}", headers=keys[0])
    check_error(deleted, 404, "not_found")

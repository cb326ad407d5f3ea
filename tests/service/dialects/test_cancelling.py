"""Jobs of clients that disconnect, through each dialect: they go on, or end if so configured."""

import time
from collections.abc import Iterator

import pytest

from tests.service.conftest import Running, running
from tests.service.raw_http import posted

STREAM = {"prompt": "x", "stream": True, "partial_images": 1}
REQUESTS = [
    ("/v1/txt2img", {"prompt": "x"}),
    ("/v1/images/generations", {"prompt": "x"}),
    ("/v1/images/generations", STREAM),
    ("/sdapi/v1/txt2img", {"prompt": "x"}),
    ("/v1/generation/tiny/text-to-image", {"text_prompts": [{"text": "x"}]}),
    ("/v2beta/stable-image/generate/core", {"prompt": "x"}),
    ("/fal/run/someone/tiny", {"prompt": "x"}),
    ("/fal/run/someone/tiny/stream", {"prompt": "x"}),
    ("/models/someone/tiny", {"inputs": "x"}),
]


@pytest.fixture(scope="module")
def redis_of_module() -> Iterator[str]:
    from tests.support.redis_server import RedisServer

    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="module")
def cancelling(redis_of_module: str) -> Iterator[Running]:
    """Run a service that cancels the jobs of clients that disconnect."""
    with running(redis_of_module, cancel_on_disconnect=True) as service:
        yield service


def disconnect(service: Running, path: str, body: dict[str, object]) -> str:
    """Send a request, disconnect while its job waits, and return the job's id."""
    service.worker.hold()
    with posted(service, path, body):
        while not (waiting := service.worker.waiting()):
            time.sleep(0.01)
    [job_id] = waiting
    return job_id


def wait_until_finished(service: Running, job_id: str) -> None:
    until = time.monotonic() + 60
    while service.client.get(f"/v1/jobs/{job_id}").json()["state"] != "finished":
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_job_of_a_client_that_left_is_cancelled(
    cancelling: Running, path: str, body: dict[str, object]
) -> None:
    disconnect(cancelling, path, body)
    while cancelling.worker.waiting():
        time.sleep(0.01)
    before = len(cancelling.worker.seen)
    cancelling.worker.release()
    cancelling.client.post("/v1/txt2img", json={"prompt": "another"}).raise_for_status()
    assert [one.prompt for one in cancelling.worker.seen[before:]] == ["another"]


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_job_goes_on_by_default(service: Running, path: str, body: dict[str, object]) -> None:
    job_id = disconnect(service, path, body)
    service.worker.release()
    wait_until_finished(service, job_id)


def test_request_says_otherwise(cancelling: Running) -> None:
    body: dict[str, object] = {"prompt": "x", "cancel_on_disconnect": False}
    job_id = disconnect(cancelling, "/v1/images/generations", body)
    cancelling.worker.release()
    wait_until_finished(cancelling, job_id)

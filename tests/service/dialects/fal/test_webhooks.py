"""fal's webhooks: the result or the error of a request, sent to the address in its query."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from protocol.errors import JobFailed
from tests.service.conftest import Running, running
from tests.service.dialects.fal.asking import APP, QUEUE, check_error
from tests.service.webhooks.receiver import Receiver


@pytest.fixture
def calling(redis_url: str) -> Iterator[Running]:
    """Run a service that may call this machine."""
    with running(redis_url, webhooks="any", poll_s=0.05, webhook_retry_s=0.01) as service:
        yield service


def submit(service: Running, url: str, **fields: Any) -> str:
    query = {"fal_webhook": url}
    response = service.client.post(QUEUE, params=query, json={"prompt": "a cat", **fields})
    assert response.status_code == 200, response.text
    return str(response.json()["request_id"])


def test_finished_request(calling: Running) -> None:
    with Receiver() as receiver:
        request_id = submit(calling, receiver.url, seed=7)
        call = receiver.next()
    body = call.json()
    assert (body["request_id"], body["gateway_request_id"]) == (request_id, request_id)
    assert (body["status"], body["payload"]["seed"]) == ("OK", 7)
    assert body["payload"] == calling.client.get(f"{QUEUE}/requests/{request_id}").json()
    assert call.verifies(calling.client.get("/v1/webhooks/secret").json()["key"])


def test_failed_and_cancelled_requests(calling: Running) -> None:
    calling.worker.error = JobFailed("the worker died while it ran")
    with Receiver() as receiver:
        submit(calling, receiver.url)
        failed = receiver.next().json()
        calling.worker.hold()
        request_id = submit(calling, receiver.url)
        calling.client.put(f"{QUEUE}/requests/{request_id}/cancel").raise_for_status()
        cancelled = receiver.next().json()
    assert (failed["status"], cancelled["status"]) == ("ERROR", "ERROR")
    assert "the worker died" in failed["error"]
    assert failed["payload"] == {"detail": failed["error"]}
    assert cancelled["request_id"] == request_id


def test_by_the_proxy(calling: Running) -> None:
    with Receiver() as receiver:
        query = httpx.QueryParams(fal_webhook=receiver.url)
        target = {"x-fal-target-url": f"https://queue.fal.run/{APP}?{query}"}
        calling.client.post("/api/fal/proxy", json={"prompt": "a cat"}, headers=target)
        assert receiver.next().json()["status"] == "OK"


def test_addresses_that_are_not_allowed(redis_url: str) -> None:
    for webhooks in ("public", "off"):
        with running(redis_url, webhooks=webhooks) as service:
            query = {"fal_webhook": "http://127.0.0.1/hook"}
            response = service.client.post(QUEUE, params=query, json={"prompt": "a cat"})
            [wrong] = check_error(response, 422)
            assert wrong["loc"] == ["body", "fal_webhook"]

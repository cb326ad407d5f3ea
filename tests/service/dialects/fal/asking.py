"""Requests to an app of fal."""

import json
from typing import Any

import httpx

from protocol.request.request import GenerationRequest
from tests.service.conftest import Running

APP = "someone/tiny"
RUN, QUEUE = f"/fal/run/{APP}", f"/fal/queue/{APP}"


def ran(service: Running, **fields: object) -> tuple[dict[str, Any], GenerationRequest]:
    """Return the result of a request, and the request that the worker got."""
    response = service.client.post(RUN, json={"prompt": "a cat", **fields})
    assert response.status_code == 200, response.text
    return response.json(), service.worker.seen[-1]


def queued(service: Running, path: str = QUEUE, **fields: object) -> dict[str, Any]:
    response = service.client.post(path, json={"prompt": "a cat", **fields})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert response.headers["x-fal-request-id"] == body["request_id"]
    return body


def completed(service: Running, request: dict[str, Any]) -> dict[str, Any]:
    """Follow a request until it has ended, and return its last state."""
    return events(service.client.get(f"{request['status_url']}/stream"))[-1]


def check_error(response: httpx.Response, status: int) -> Any:
    """Return the detail of an error."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"detail", "message"}
    assert response.headers["x-fal-error-type"]
    return body["detail"]


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the data of server-sent events."""
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = response.text.splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

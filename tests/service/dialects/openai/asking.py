"""Requests to POST /v1/images/generations."""

from typing import Any

from protocol.request.request import GenerationRequest
from tests.service.conftest import Running

PATH = "/v1/images/generations"


def generated(service: Running, **fields: object) -> tuple[dict[str, Any], GenerationRequest]:
    """Return the answer to a request, and the request that the worker got."""
    response = service.client.post(PATH, json={"prompt": "a cat", **fields})
    assert response.status_code == 200, response.text
    return response.json(), service.worker.seen[-1]


def refused(service: Running, **fields: object) -> tuple[int, dict[str, Any]]:
    """Return status and error of a refused request."""
    response = service.client.post(PATH, json={"prompt": "a cat", **fields})
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    return response.status_code, body["error"]

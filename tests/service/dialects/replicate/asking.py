"""Requests for predictions."""

from typing import Any

import httpx

from protocol.request.request import GenerationRequest
from tests.service.conftest import Running

PATH = "/v1/predictions"
MODEL_PATH = "/v1/models/stability-ai/tiny/predictions"
WAIT = {"Prefer": "wait"}
NO_HEADERS: dict[str, str] = {}


def create(
    service: Running,
    sent: dict[str, Any],
    headers: dict[str, str] = NO_HEADERS,
    path: str = MODEL_PATH,
    **fields: object,
) -> httpx.Response:
    return service.client.post(path, json={"input": sent, **fields}, headers=headers)


def generated(service: Running, **sent: object) -> tuple[dict[str, Any], GenerationRequest]:
    """Return a prediction that has succeeded, and the request that the worker got."""
    response = create(service, {"prompt": "a cat", **sent}, WAIT)
    assert response.status_code == 201, response.text
    found = response.json()
    assert found["status"] == "succeeded", found
    return found, service.worker.seen[-1]


def refused(service: Running, sent: dict[str, Any], **fields: object) -> dict[str, Any]:
    """Return the problem of a request that is refused with 422."""
    response = create(service, sent, **fields)  # type: ignore[arg-type]
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == 422
    assert isinstance(problem["detail"], str)
    assert problem["title"]
    return problem

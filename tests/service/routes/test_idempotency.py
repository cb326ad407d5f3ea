"""Idempotency keys: a request sent again with the same key is the same job."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.service.conftest import Running

BODY = {"prompt": "a red heart", "steps": 2}


def post(service: Running, key: str | None, **changes: Any) -> httpx.Response:
    headers = {"Prefer": "respond-async"} | ({"Idempotency-Key": key} if key else {})
    return service.client.post("/v1/txt2img", json=BODY | changes, headers=headers)


def test_repeated_request_is_one_job_for_any_seed(service: Running) -> None:
    service.worker.hold()
    first, again = post(service, "order 1"), post(service, "order 1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert service.worker.waiting() == [first.json()["id"]]


def test_repeated_request_gets_the_same_images(service: Running) -> None:
    headers = {"Idempotency-Key": "order 1"}
    first, again = (
        service.client.post("/v1/txt2img", json=BODY, headers=headers).json() for _ in range(2)
    )
    assert first["id"] == again["id"]
    assert first["images"] == again["images"]
    assert len(service.worker.seen) == 1


def test_concurrent_repeats_are_one_job(service: Running) -> None:
    service.worker.hold()
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: post(service, "order 1").json()["id"], range(16)))
    assert len(ids) == 1
    assert service.worker.waiting() == [*ids]


def test_requests_without_a_key_are_separate_jobs(service: Running) -> None:
    assert post(service, None).json()["id"] != post(service, None).json()["id"]


def test_reused_key_is_rejected(service: Running) -> None:
    post(service, "order 1")
    response = post(service, "order 1", prompt="a blue heart")
    assert response.status_code == 422
    assert response.json()["field"] == "Idempotency-Key"
    assert response.json()["type"].endswith("idempotency-key-reused")


def test_invalid_key_is_rejected(service: Running) -> None:
    response = post(service, "x" * 256)
    assert response.status_code == 422
    assert response.json()["type"].endswith("bad-idempotency-key")
